import ArgumentParser
import Certification
import EarlyExit
import Generation
import SpeculativeDecoding
import Transformers

/// Who drafts, and which drafts stay.
struct SpeculationOptions: ParsableArguments {
  enum Kind: String, ExpressibleByArgument, CaseIterable {
    case draft
    case promptLookup = "prompt-lookup"
    case earlyExit = "early-exit"
    case auto
    case off = "none"
  }

  @Option(
    help: ArgumentHelp(
      """
      Draft tokens ahead: draft with what --draft names, prompt-lookup with what stands in the text already, \
      early-exit with the model's own first layers; auto takes whichever of them pays at the moment, or none, the \
      draft head that comes with a model among them. (default: prompt-lookup for one document of summarize and answer, \
      none otherwise)
      """,
      valueName: "drafter"))
  var drafter: Kind?

  @Option(
    help: ArgumentHelp(
      """
      What drafts: a small model, by name or path; or a draft head on the model's hidden states, head for the one that \
      comes with the model or a .safetensors file.
      """, valueName: "draft"))
  var draft: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Layers to draft with; --exit-heads gives them a head. (default: a third of them, or the first of --exit-heads)",
      valueName: "layer"))
  var draftLayer: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Let tokens of the small model leave its layers where neighbouring hidden states are at least this "
        + "similar, in 0...1.",
      valueName: "threshold"))
  var draftExitThreshold: Double?

  @Option(
    parsing: .unconditional,
    help:
      "A drafting model stops before a token less probable than this. (default: 0.6; 0.1 with a draft head)")
  var fallback: Double?

  @Option(
    parsing: .unconditional,
    help: """
      Drafted tokens stay up to this distance, -ln of the model's own probability; 0 changes nothing in the output. \
      (default: 2 with a draft model)
      """)
  var rollback: Double?

  @Option(
    parsing: .unconditional,
    help: "Tokens to draft at a time, at most. (default: 10; 3 with a draft head and --rollback)")
  var draftLength: Int?

  @Flag(
    help: """
      Keep only drafts that change nothing in the output. What all drafters but a draft model do unless told otherwise.
      """)
  var exact = false

  @Flag(help: "Colour the text by who wrote it, drafter or model, on a terminal.")
  var showDrafts = false

  var isActive: Bool { kind != nil && kind != .off }

  /// Who was asked for, or `nil`.
  var kind: Kind? { drafter ?? (draft == nil ? nil : .draft) }

  private var given: [String] {
    let all: [(String, Bool)] = [
      ("draft-layer", draftLayer != nil), ("draft-exit-threshold", draftExitThreshold != nil),
      ("fallback", fallback != nil), ("rollback", rollback != nil),
      ("draft-length", draftLength != nil), ("exact", exact), ("show-drafts", showDrafts),
    ]
    return all.filter(\.1).map(\.0)
  }

  func validate() throws {
    guard let kind else {
      if let name = given.first { throw ValidationError("--\(name) needs a --drafter or a --draft.") }
      return
    }
    func refuse(_ name: String, _ isGiven: Bool) throws {
      if isGiven { throw ValidationError("--\(name) has no effect with --drafter \(kind.rawValue).") }
    }
    if draft == nil, draftExitThreshold != nil {
      throw ValidationError("--draft-exit-threshold needs a --draft.")
    }
    switch kind {
    case .draft:
      guard draft != nil else { throw ValidationError("--drafter draft needs a --draft.") }
      try refuse("draft-layer", draftLayer != nil)
    case .promptLookup:
      try refuse("draft", draft != nil)
      try refuse("fallback", fallback != nil)
      try refuse("draft-layer", draftLayer != nil)
    case .earlyExit: try refuse("draft", draft != nil)
    case .off:
      try refuse("draft", draft != nil)
      if let name = given.first { try refuse(name, true) }
    case .auto:
      if let rollback, rollback > 0 {
        throw ValidationError(
          "--drafter auto chooses by measured times, so it takes no --rollback above 0: the output would hang on them."
        )
      }
    }
    if exact, rollback != nil { throw ValidationError("Give either --exact or --rollback, not both.") }
    try CalibrationDraft.validate(fallback: fallback, draftLength: draftLength)
    if let rollback, !(rollback >= 0) {
      throw ValidationError("--rollback must be 0 or above, but is \(rollback).")
    }
    if let draftExitThreshold, !(0...1).contains(draftExitThreshold) {
      throw ValidationError("--draft-exit-threshold must be in 0...1, but is \(draftExitThreshold).")
    }
    if let draftLayer, draftLayer < 1 {
      throw ValidationError("--draft-layer must be at least 1, but is \(draftLayer).")
    }
  }

  /// Which drafted tokens are kept.
  var rule: AcceptanceRule {
    // What a draft model drafts is worth having where it differs.
    let usual = kind == .draft && !exact ? AcceptanceRule.rollback(threshold: 2) : .exact
    return rollback.map { .rollback(threshold: $0) } ?? usual
  }

  /// Whether the certificate given is one for the rollback threshold, not for exits.
  func takesCertificate(_ exits: ExitOptions) -> Bool {
    kind == .draft && !exact && exits.certificate != nil
  }

  /// Checks what drafting and early exits of the model itself have to do with each other.
  func validate(with exits: ExitOptions) throws {
    if exits.isGiven, kind == .earlyExit || draftLayer != nil {
      throw ValidationError(
        "--drafter early-exit and --draft-layer do not go with --exit-threshold or --certificate: "
          + "the first layers either draft or decide.")
    }
    if takesCertificate(exits) {
      let fixed = given.first { $0 != "show-drafts" }
      if let name = fixed ?? (exits.policy.exitHeads == nil ? nil : "exit-heads") {
        throw ValidationError("--\(name) is fixed by --certificate, which is for the draft model.")
      }
    }
    if isActive, exits.isGiven, exits.policy.exitCache == .propagate {
      throw ValidationError("Drafting needs --exit-cache defer, so that a wrong draft leaves no trace.")
    }
    if !exits.isGiven, exits.policy.exitHeads != nil, kind != .earlyExit, kind != .auto {
      throw ValidationError(
        "--exit-heads has no effect without --exit-threshold, or --drafter early-exit or auto.")
    }
  }

  /// Who drafts for a model and which drafts stay; `nil` for plain decoding.
  ///
  /// - Throws: ``SpeculativeDecodingError`` for a pair that does not fit.
  /// - Parameter exitStrategy: What ``exitStrategy(_:_:regime:)`` gave; making it may tell the user something, so it is
  ///   made once.
  func makeStrategy(
    _ loaded: LoadedModel, threads: Int?, exits: ExitOptions, exitStrategy: ExitStrategy?,
    regime: DecodingRegime
  ) throws -> SpeculationStrategy? {
    guard isActive, let kind else { return nil }
    if takesCertificate(exits), let draft, let certificate = exits.certificate {
      return try Self.strategy(
        certificate: certificate, loaded, draft: LoadedDraft(draft, for: loaded, threads: threads),
        regime: regime)
    }
    // Where nothing better is known than heads that come with a model, its first layers cost more than they draft.
    let draftsEarly =
      kind == .earlyExit || kind == .auto && (exits.policy.exitHeads != nil || draftLayer != nil)
    var sources: [SpeculationStrategy.Source] = []
    var loadedDraft: LoadedDraft?
    if kind == .auto || kind == .promptLookup { sources.append(.promptLookup) }
    if let draft {
      let exits = try draftExitThreshold.map {
        ExitStrategy(policy: try ThresholdPolicy(threshold: $0), measure: SaturationConfidence())
      }
      let small = try LoadedDraft(draft, for: loaded, threads: threads)
      sources.append(try small.source(exits: exits))
      loadedDraft = small
    } else if kind == .auto, exitStrategy == nil, !draftsEarly,
      let head = try LoadedDraft.shippedHead(loaded)
    {
      let small = try LoadedDraft(head, for: loaded, threads: threads)
      sources.append(small.source)
      loadedDraft = small
    }
    if draftsEarly, !exits.isGiven {
      let heads = try exits.policy.loadHeads(loaded)
      let layers = loaded.model.decoder.configuration.layerCount
      let usual = heads?.layers.first ?? max(1, layers / 3)
      sources.append(.earlyExit(layer: draftLayer ?? usual, heads: heads))
    }
    return try SpeculationStrategy(
      sources, for: loaded.model, exits: exitStrategy, rule: rule,
      fallback: fallback ?? loadedDraft?.usualFallback ?? 0.6,
      draftLength: draftLength ?? (rule.keepsOutput ? nil : loadedDraft?.usualDraftLength) ?? 10)
  }

  /// Where tokens may leave the model's layers early.
  func exitStrategy(
    _ exits: ExitOptions, _ loaded: LoadedModel, regime: DecodingRegime
  ) throws -> ExitStrategy? {
    takesCertificate(exits) ? nil : try exits.makeStrategy(loaded, regime: regime)
  }

  /// Drafting where it was asked for, else early exits, else full depth.
  func strategy(
    _ loaded: LoadedModel, threads: Int?, exits: ExitOptions, exitStrategy: ExitStrategy?,
    regime: DecodingRegime
  ) throws -> any DecodingStrategy {
    if let drafting = try makeStrategy(
      loaded, threads: threads, exits: exits, exitStrategy: exitStrategy, regime: regime)
    {
      return drafting
    }
    if let exitStrategy { return exitStrategy }
    return FullDepth()
  }
}
