import Transformers

/// What is done to logits for what a text has already, and for tokens that are wanted more or less.
public struct LogitAdjustments: Sendable, Equatable {
  /// Logits of tokens that the prompt or the output has are divided by it where they are above 0 and multiplied where
  /// below (CTRL; Keskar et al., 2019). 1 changes nothing; above 0.
  public var repeatPenalty: Float
  /// Taken from a token's logit for each time that the output has it.
  public var frequencyPenalty: Float
  /// Taken once from the logits of tokens that the output has.
  public var presencePenalty: Float
  /// Added to the logits of tokens; minus infinity forbids one.
  public var bias: [TokenID: Float]

  /// Sets the adjustments; without arguments there are none.
  public init(
    repeatPenalty: Float = 1, frequencyPenalty: Float = 0, presencePenalty: Float = 0,
    bias: [TokenID: Float] = [:]
  ) {
    self.repeatPenalty = repeatPenalty
    self.frequencyPenalty = frequencyPenalty
    self.presencePenalty = presencePenalty
    self.bias = bias
  }

  /// Whether they change nothing.
  public var isEmpty: Bool { self == LogitAdjustments() }

  /// - Throws: ``GenerationError/option(field:expected:found:)``.
  func validate(vocabularySize: Int?) throws(GenerationError) {
    guard repeatPenalty > 0, repeatPenalty.isFinite else {
      throw .option(field: "repeat-penalty", expected: "a number above 0", found: "\(repeatPenalty)")
    }
    for (name, value) in [("frequency-penalty", frequencyPenalty), ("presence-penalty", presencePenalty)] {
      guard value.isFinite else { throw .option(field: name, expected: "a number", found: "\(value)") }
    }
    for (token, value) in bias.sorted(by: { $0.key < $1.key }) {
      guard token >= 0, token < vocabularySize ?? .max else {
        throw .option(
          field: "logit-bias", expected: "tokens below \(vocabularySize ?? .max)", found: "\(token)")
      }
      guard value.isFinite || value == -.infinity else {
        throw .option(field: "logit-bias", expected: "numbers, or -inf", found: "\(value)")
      }
    }
  }
}

/// Adjustments at work on one output.
struct LogitAdjuster {
  private let adjustments: LogitAdjustments
  /// How often the output has each token.
  private var counts: [TokenID: Int] = [:]
  /// Tokens that prompt or output have.
  private var seen: Set<TokenID> = []

  init(_ adjustments: LogitAdjustments, prompt: [TokenID]) {
    self.adjustments = adjustments
    if adjustments.repeatPenalty != 1 { seen = Set(prompt) }
  }

  mutating func append(_ token: TokenID) {
    counts[token, default: 0] += 1
    if adjustments.repeatPenalty != 1 { seen.insert(token) }
  }

  /// The logits, adjusted.
  ///
  /// - Parameter candidates: The tokens that the logits are of; `nil` for the whole vocabulary.
  /// - Complexity: O(n), and a look-up for each token that is concerned; for each candidate, where there are some.
  func adjusted(_ logits: UnsafeBufferPointer<Float>, candidates: [TokenID]?) -> [Float] {
    var result = Array(logits)
    if let candidates {
      for (place, token) in candidates.enumerated() { result[place] = adjusted(result[place], token) }
      return result
    }
    for token in Set(counts.keys).union(seen).union(adjustments.bias.keys)
    where result.indices.contains(token) {
      result[token] = adjusted(result[token], token)
    }
    return result
  }

  private func adjusted(_ logit: Float, _ token: TokenID) -> Float {
    var logit = logit
    if seen.contains(token) {
      logit = logit > 0 ? logit / adjustments.repeatPenalty : logit * adjustments.repeatPenalty
    }
    if let count = counts[token] {
      logit -= Float(count) * adjustments.frequencyPenalty + adjustments.presencePenalty
    }
    return logit + (adjustments.bias[token] ?? 0)
  }
}
