import RealModule
import Tokenization
import Transformers

/// How probable a model finds a text.
public struct TextScore: Sendable, Equatable {
  /// The text's tokens.
  public var tokenIDs: [TokenID]
  /// The natural logarithm of each token's probability given those before it: of every token after the first.
  public var logprobs: [Double]

  /// exp(-mean of ``logprobs``), at least 1.
  public var perplexity: Double {
    Double.exp(-logprobs.reduce(0, +) / Double(max(1, logprobs.count)))
  }
}

extension LanguageModel {
  /// The log-probability of each token of a text.
  ///
  /// Tokens go through the layers in batches small enough to give the very numbers that decoding sees.
  ///
  /// - Parameters:
  ///   - text: A text as it is, without a template.
  ///   - special: Whether text that spells a special token becomes that token.
  ///   - context: Tokens the text may have, or `nil` for as many as the model can.
  ///   - shouldStop: Asked before each batch.
  /// - Returns: `nil` when `shouldStop` said so.
  /// - Throws: ``GenerationError/tooFewTokens(found:)`` for fewer than two tokens,
  ///   ``GenerationError/notForEncoderDecoders(_:)``,
  ///   ``GenerationError/promptTooLong(tokens:context:)``, `DecoderError`, and the tokenizer's errors.
  public func score(
    _ text: String, special: SpecialTokenHandling = .asText, context: Int? = nil,
    shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> TextScore? {
    try score(tokens: prompt(raw: text, special: special), context: context, shouldStop: shouldStop)
  }

  /// The log-probability of each token of a text given as tokens.
  public func score(
    tokens: [TokenID], context: Int? = nil, shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> TextScore? {
    let context = try GenerationOptions(context: context).validatedContext(contextLength: contextLength)
    guard !hasEncoder else { throw GenerationError.notForEncoderDecoders("score") }
    guard tokens.count >= 2 else { throw GenerationError.tooFewTokens(found: tokens.count) }
    guard tokens.count <= context else {
      throw GenerationError.promptTooLong(tokens: tokens.count, context: context)
    }
    var buffers = DecodingBuffers(decoder: decoder)
    let cache = try decoder.makeCache(capacity: tokens.count)
    var logprobs: [Double] = []
    var position = 0
    while position < tokens.count - 1 {
      if shouldStop() { return nil }
      let end = min(position + DecodingBuffers.logitChunk, tokens.count - 1)
      try buffers.advance(tokens[position..<end], cache: cache, position: position)
      try buffers.withLogits(rows: 0..<end - position) { row, logits in
        logprobs.append(Self.logprob(of: tokens[position + row + 1], logits))
      }
      position = end
    }
    return TextScore(tokenIDs: tokens, logprobs: logprobs)
  }

  /// log softmax(logits)[token].
  static func logprob(of token: TokenID, _ logits: UnsafeBufferPointer<Float>) -> Double {
    Double(logits[token]) - Logits.logSumExp(logits)
  }
}
