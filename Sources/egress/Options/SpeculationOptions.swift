import ArgumentParser
import DecoderModels
import EarlyExit
import SpeculativeDecoding

/// Who drafts, and which drafts stay.
struct SpeculationOptions: ParsableArguments {
  enum Kind: String, ExpressibleByArgument, CaseIterable {
    case draft
    case promptLookup = "prompt-lookup"
  }

  @Option(
    help: ArgumentHelp(
      "Draft tokens ahead: draft with the model of --draft, prompt-lookup with what stands in the text already.",
      valueName: "drafter"))
  var drafter: Kind?

  @Option(help: ArgumentHelp("The small model that drafts: a name or a path.", valueName: "model"))
  var draft: String?

  @Option(help: "The small model stops before a token less probable than this. (default: 0.6)")
  var fallback: Double?

  @Option(
    help: """
      Drafted tokens stay up to this distance, -ln of the model's own probability; 0 changes nothing in the output. \
      (default: 2 with a draft model)
      """)
  var rollback: Double?

  @Option(help: "Tokens to draft at a time, at most. (default: 10)")
  var draftLength: Int?

  @Flag(
    help: "Keep only drafts that change nothing in the output. What prompt-lookup does unless told otherwise."
  )
  var exact = false

  var isActive: Bool { kind != nil }

  private var kind: Kind? { drafter ?? (draft == nil ? nil : .draft) }

  func validate() throws {
    guard let kind else {
      let given = fallback != nil || rollback != nil || draftLength != nil || exact
      if given {
        throw ValidationError(
          "--fallback, --rollback, --draft-length and --exact need a --drafter or a --draft.")
      }
      return
    }
    if kind == .draft, draft == nil { throw ValidationError("--drafter draft needs a --draft.") }
    if kind == .promptLookup, draft != nil {
      throw ValidationError("--draft has no effect with --drafter prompt-lookup.")
    }
    if kind == .promptLookup, fallback != nil {
      throw ValidationError("--fallback has no effect with --drafter prompt-lookup.")
    }
    if exact, rollback != nil { throw ValidationError("Give either --exact or --rollback, not both.") }
    if let fallback, !(0...1).contains(fallback) {
      throw ValidationError("--fallback must be in 0...1, but is \(fallback).")
    }
    if let rollback, !(rollback >= 0) {
      throw ValidationError("--rollback must be 0 or above, but is \(rollback).")
    }
    if let draftLength, !SpeculativeSession.draftLengths.contains(draftLength) {
      throw ValidationError(
        "--draft-length must be in \(SpeculativeSession.draftLengths), but is \(draftLength).")
    }
  }

  /// Verifying a draft takes the full depth, so that tokens cannot leave early at the same time.
  func validate(with exits: ExitOptions) throws {
    if isActive, exits.isGiven {
      throw ValidationError(
        "Drafting (--drafter, --draft) and early exits (--exit-threshold, --certificate, --trace, --show-exits) "
          + "do not go together; give one of them.")
    }
  }

  /// A session of the kind that was asked for, or a plain one.
  func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, threads: Int?
  ) throws -> any OutputSession {
    let shouldStop = { Interrupt.isRequested }
    let rule = rollback.map { AcceptanceRule.rollback(threshold: $0) }
    switch kind {
    case nil:
      return try model.makeSession(prompt: prompt, options: options, shouldStop: shouldStop)
    case .promptLookup:
      return try SpeculativeSession(
        model: model, prompt: prompt, options: options, rule: rule ?? .exact, draftLength: draftLength ?? 10,
        shouldStop: shouldStop)
    case .draft:
      let (path, _) = try ModelStore().resolve(draft ?? "")
      let small = try LanguageModel(path: path, threads: threads)
      return try SpeculativeSession(
        model: model, draft: small, prompt: prompt, options: options, fallback: fallback ?? 0.6,
        rule: exact ? .exact : rule ?? .rollback(threshold: 2), draftLength: draftLength ?? 10,
        shouldStop: shouldStop)
    }
  }
}
