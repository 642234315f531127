import Generation
import Transformers

/// What happens to the keys and values of the layers that a token skipped.
public enum ExitCachePolicy: String, Sendable, CaseIterable, Codable {
  /// State propagation: the hidden state is projected to keys and values of every skipped layer (Schuster et al.,
  /// NeurIPS 2022, section 3.2). Cheap and approximate.
  case propagate
  /// Deferred completion: the hidden states of tokens that left are kept. When a later token goes deeper, they pass the
  /// layers with it as one batch (Bae et al., EMNLP 2023). Keys and values are those of a full-depth run.
  case `defer`
}

/// A complete description of early exit: where and when tokens leave, how confidence is measured, which head chooses
/// the token, and what happens to the skipped layers.
public struct ExitStrategy: Sendable {
  /// Where and when tokens leave.
  public var policy: any ExitPolicy
  /// How confidence is measured.
  public var measure: any ConfidenceMeasure
  /// Fitted maps by exit layer; layers without one use the shared head, final norm and unembedding.
  public var heads: ExitHeads?
  /// What happens to the keys and values of skipped layers.
  public var cachePolicy: ExitCachePolicy
  /// Tokens whose completion may be pending at a time, at least 1, with ``ExitCachePolicy/defer``.
  public var groupLimit: Int

  /// Puts a strategy together.
  ///
  /// - Parameters:
  ///   - policy: Where and when tokens leave.
  ///   - measure: How confidence is measured.
  ///   - heads: Fitted maps; `nil` for the model's own final norm and unembedding at every exit.
  ///   - cachePolicy: What happens to the keys and values of skipped layers.
  ///   - groupLimit: Tokens whose keys and values may be missing at a time, at least 1.
  public init(
    policy: any ExitPolicy, measure: any ConfidenceMeasure, heads: ExitHeads? = nil,
    cachePolicy: ExitCachePolicy = .defer, groupLimit: Int = 16
  ) {
    self.policy = policy
    self.measure = measure
    self.heads = heads
    self.cachePolicy = cachePolicy
    self.groupLimit = groupLimit
  }

  /// The exit layers on a model.
  ///
  /// - Throws: ``EarlyExitError/option(field:expected:found:)`` for layers that the model does not have, or a group
  ///   that its decoder cannot complete exactly; ``EarlyExitError/exitHeads(_:)`` for heads of another shape.
  public func validatedLayers(for decoder: any DecoderModel) throws(EarlyExitError) -> [Int] {
    let count = decoder.configuration.layerCount
    let layers = policy.exitLayers(layerCount: count)
    // With a shortlist the last layer is an exit too: from its head alone.
    let hasShortlist = heads?.shortlist.isEmpty == false
    let last = hasShortlist ? count : count - 1
    guard zip(layers, layers.dropFirst()).allSatisfy(<), layers.allSatisfy({ $0 >= 1 && $0 <= last })
    else {
      throw .option(
        field: "exit-layers",
        expected: "ascending and in 1...\(last)" + (hasShortlist ? "" : ", the layers before the last"),
        found: layers.map(String.init).joined(separator: ","))
    }
    guard groupLimit >= 1 else {
      throw .option(field: "exit-group", expected: "at least 1", found: "\(groupLimit)")
    }
    if let heads { try heads.check(decoder) }
    return layers
  }
}

extension ExitStrategy: DecodingStrategy, BeginningSharing {
  /// Begins an output with these exits.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    try model.makeSession(prompt: prompt, options: options, exits: self, shouldStop: shouldStop)
  }

  package func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws -> any BeginningSession {
    try DecodingSession(
      model: model, prompt: prompt, options: options, beginning: beginning,
      stepper: ExitDecoder(self, decoder: model.decoder), shouldStop: shouldStop)
  }
}

extension LanguageModel {
  /// Begins to decode after a prompt, with early exits.
  ///
  /// - Parameters:
  ///   - prompt: Tokens, at least one.
  ///   - options: How the output is generated.
  ///   - exits: Where and when tokens leave, or `nil` for full depth.
  ///   - shouldStop: Asked before each token; by default, whether the current task is cancelled.
  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model, and what a plain session throws.
  public func makeSession(
    prompt: [TokenID], options: GenerationOptions = GenerationOptions(), exits: ExitStrategy?,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> DecodingSession {
    try DecodingSession(
      model: self, prompt: prompt, options: options,
      stepper: exits.map { try ExitDecoder($0, decoder: decoder) }, shouldStop: shouldStop)
  }
}
