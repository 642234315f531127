import DecoderModels
import EarlyExit
import Foundation

/// Drafts with a smaller model, greedily, until it is unsure: BiLD's fallback policy
/// (Kim et al., "Speculative decoding with big little decoder", NeurIPS 2023, equation 4).
public final class ModelDrafter: Drafter {
  public var evidenceCount: Int { 1 }
  public var isFree: Bool { false }

  private let model: LanguageModel
  private let fallback: Double
  private let cache: KeyValueCache
  private var buffers: DecodingBuffers
  /// Tokens whose keys and values are in the cache.
  private var cached: [TokenID] = []

  /// - Parameters:
  ///   - model: The small model.
  ///   - fallback: α_FB, in 0...1: the first token less probable than this is dropped and the draft ends before it.
  ///   - capacity: Tokens that prompt and output may have together; more than the model's context are not drafted for.
  ///   - source: What the encoder reads, where both models are encoder–decoders; a decoder's prompt is in the history.
  /// - Throws: ``SpeculativeDecodingError`` for a threshold out of range, `DecoderError` when there is no memory.
  public init(model: LanguageModel, fallback: Double = 0.6, capacity: Int, source: [TokenID] = []) throws {
    guard (0...1).contains(fallback) else {
      throw SpeculativeDecodingError.option(field: "fallback", expected: "in 0...1", found: "\(fallback)")
    }
    self.model = model
    self.fallback = fallback
    cache = try model.decoder.makeCache(capacity: max(1, min(capacity, model.contextLength)))
    buffers = DecodingBuffers(decoder: model.decoder)
    if model.hasEncoder { try model.decoder.encode(source, into: cache) }
  }

  public func draft(after history: [TokenID], limit: Int) throws -> Draft {
    guard limit > 0, let last = history.last, history.count <= cache.capacity else { return Draft() }
    // What the large model has replaced leaves the cache. The last token always goes through the layers again, for
    // its hidden state is not kept.
    var common = zip(cached, history).prefix { $0 == $1 }.count
    common = min(common, history.count - 1)
    cache.crop(to: common)
    cached.removeSubrange(common...)
    while cached.count < history.count - 1 {
      let end = min(cached.count + DecodingBuffers.prefillChunk, history.count - 1)
      try push(history[cached.count..<end])
    }
    var draft = Draft()
    var next = last
    while draft.tokens.count < limit, cached.count < cache.capacity {
      try push([next])
      var isSure = false
      try buffers.withLogits(rows: 0..<1) { _, logits in
        next = Logits.argmax(logits)
        isSure = Double(logits[next]) - Logits.logSumExp(logits) >= self.logFallback
      }
      guard isSure else { break }
      draft.tokens.append(next)
    }
    return draft
  }

  private var logFallback: Double { fallback == 0 ? -.infinity : log(fallback) }

  private func push(_ tokens: ArraySlice<TokenID>) throws {
    try buffers.advance(tokens, cache: cache, position: cached.count)
    cached.append(contentsOf: tokens)
  }
}
