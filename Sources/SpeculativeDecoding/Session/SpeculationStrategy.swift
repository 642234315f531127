import EarlyExit
import Generation
import Transformers

/// Who drafts for a model and which drafts stay, checked once and then good for any number of prompts. Sessions that
/// choose how much to draft begin with what earlier ones of the same strategy have learnt.
public struct SpeculationStrategy: Sendable {
  /// Where drafts come from.
  public enum Source: Sendable {
    /// ``PromptLookup``
    case promptLookup
    /// ``ModelDrafter``; the small model's tokens may leave its layers early.
    case model(LanguageModel, exits: ExitStrategy? = nil)
    /// ``HeadDrafter``
    case head(DraftHead)
    /// ``EarlyExitDrafter``
    case earlyExit(layer: Int, heads: ExitHeads? = nil)

    /// The draft head's, if it has one.
    var shortlist: ExitHeads? {
      if case .head(let head) = self, !head.shortlist.isEmpty { head.unembedding } else { nil }
    }
  }

  /// The large model.
  public let model: LanguageModel
  /// What drafts; the controller chooses among several.
  public let sources: [Source]
  /// Where tokens may leave the large model's layers early; `nil` for full depth.
  public let exits: ExitStrategy?
  /// Which drafted tokens are kept.
  public let rule: AcceptanceRule
  /// α_FB
  public let fallback: Double
  /// γ
  public let draftLength: Int
  /// What sessions have learnt so far.
  private let knowledge = DraftKnowledge()
  /// What tokens are chosen from, beside the prompt's, where the rule lets drafts change the output; `nil` for the
  /// whole vocabulary. With the prompt's tokens it is what a draft head drafts from, and spares most of the
  /// unembedding.
  var shortlist: ExitHeads? { sources.count == 1 ? sources[0].shortlist : nil }

  /// - Parameters:
  ///   - sources: Where drafts come from; several only with a rule that keeps the output.
  ///   - model: The large model.
  ///   - exits: Where tokens may leave its layers early; only drafters that need none of its layers go with it.
  ///   - fallback: α_FB, in 0...1. Look-up has no probabilities and pays no heed to it.
  ///   - rule: Which drafts stay.
  ///   - draftLength: γ, the most tokens to draft at a time, in ``SpeculativeSession/draftLengths``.
  /// - Complexity: O(size of the vocabulary) for each draft model.
  /// - Throws: ``SpeculativeDecodingError`` for a pair that does not fit or settings out of range.
  public init(
    _ sources: [Source], for model: LanguageModel, exits: ExitStrategy? = nil, rule: AcceptanceRule,
    fallback: Double = 0.6, draftLength: Int = 10
  ) throws {
    self.model = model
    self.sources = sources
    self.exits = exits
    self.rule = rule
    self.fallback = fallback
    self.draftLength = draftLength
    for case .model(let draft, _) in sources { try model.checkDraft(draft) }
    // Whatever else is wrong shows in a session, and long before a prompt is read.
    _ = try makeSession(prompt: [0], options: GenerationOptions(maxTokens: 1))
  }

  /// The same drafters under another rule.
  public func with(rule: AcceptanceRule) throws -> SpeculationStrategy {
    try SpeculationStrategy(unchecked: self, rule: rule)
  }

  private init(unchecked other: SpeculationStrategy, rule: AcceptanceRule) throws {
    model = other.model
    sources = other.sources
    exits = other.exits
    self.rule = rule
    fallback = other.fallback
    draftLength = other.draftLength
    try rule.validate()
  }

  /// Begins to decode after a prompt.
  ///
  /// Parameters are those of ``SpeculativeSession``.
  ///
  /// - Throws: ``SpeculativeDecodingError`` for a prompt that the draft's context does not hold, and what a plain
  ///   session throws.
  public func makeSession(
    prompt: [TokenID], options: GenerationOptions = GenerationOptions(), choosesLength: Bool = true,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> SpeculativeSession {
    try makeSession(
      prompt: prompt, options: options, choosesLength: choosesLength, beginning: nil, shouldStop: shouldStop)
  }

  private func makeSession(
    prompt: [TokenID], options: GenerationOptions, choosesLength: Bool,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws -> SpeculativeSession {
    try SpeculativeSession(
      model: model, prompt: prompt, options: options, exits: exits,
      drafters: sources.map { try makeDrafter($0, prompt: prompt, options: options) }, rule: rule,
      shortlist: shortlist, draftLength: draftLength, choosesLength: choosesLength, controller: nil,
      knowledge: knowledge, beginning: beginning, shouldStop: shouldStop)
  }

  private func makeDrafter(_ source: Source, prompt: [TokenID], options: GenerationOptions) throws
    -> any Drafter
  {
    // An encoder has read the prompt, and the decoder's history is its output.
    let read = model.hasEncoder ? prompt : []
    switch source {
    case .promptLookup: return PromptLookup(source: read)
    case .head(let head):
      return try HeadDrafter(
        head, model: model, prompt: prompt, maxTokens: options.maxTokens, fallback: fallback)
    case .earlyExit(let layer, let heads):
      return try EarlyExitDrafter(
        model: model, prompt: prompt, layer: layer, heads: heads, fallback: fallback)
    case .model(let draft, let exits):
      guard prompt.count + (model.hasEncoder ? 0 : 1) <= draft.contextLength else {
        throw SpeculativeDecodingError.draftContext(
          draft: draft.name, context: draft.contextLength, prompt: prompt.count)
      }
      return try ModelDrafter(
        model: draft, target: model, prompt: prompt, maxTokens: options.maxTokens, fallback: fallback,
        exits: exits)
    }
  }
}

extension SpeculationStrategy: DecodingStrategy {
  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` for another model than that which the
  ///   drafters were checked for.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    try check(model)
    return try makeSession(prompt: prompt, options: options, choosesLength: true, shouldStop: shouldStop)
  }

  private func check(_ model: LanguageModel) throws {
    guard model.decoder === self.model.decoder else {
      throw SpeculativeDecodingError.option(
        field: "model", expected: "the one that the drafters were checked for, \(self.model.name)",
        found: model.name)
    }
  }
}

extension SpeculationStrategy: BeginningSharing {
  package func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws -> any BeginningSession {
    try check(model)
    return try makeSession(
      prompt: prompt, options: options, choosesLength: true,
      beginning: beginning.map { ($0.read, reusable($0.read, count: $0.count)) }, shouldStop: shouldStop)
  }

  /// A draft head reads the state of every token: what is not read again has to be in its own cache, and of the last
  /// token that two prompts share it has the other one's follower.
  package func reusable(_ beginning: Beginning, count: Int) -> Int {
    sources.reduce(count) { count, source in
      guard case .head(let head) = source else { return count }
      guard let layer = try? head.prepared(for: model).layer else { return 0 }
      return max(0, min(count - 1, HeadBeginning.rows(of: layer, in: beginning.companions)))
    }
  }
}
