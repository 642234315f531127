import DecoderModels
import EarlyExit

/// Drafts with a smaller model, greedily, until it is unsure (Kim et al., "Speculative decoding with big little decoder",
/// NeurIPS 2023).
public final class ModelDrafter: Drafter {
  public let profile: DrafterProfile

  private let model: LanguageModel
  private let fallback: FallbackThreshold
  private let cache: KeyValueCache
  private var buffers: DecodingBuffers
  /// Tokens whose keys and values are in the cache: `known` of the history, then drafted ones.
  private var cached: [TokenID] = []
  /// Tokens of the history that were there at the last call.
  private var known = 0

  /// - Parameters:
  ///   - model: The small model.
  ///   - target: The large model.
  ///   - fallback: α_FB, in 0...1: the first token less probable than this is dropped and the draft ends before it.
  ///   - capacity: Tokens that prompt and output may have together; more than the model's context are not drafted for.
  ///   - source: What the encoder reads, where both models are encoder–decoders; a decoder's prompt is in the history.
  /// - Throws: ``SpeculativeDecodingError`` for a threshold out of range, `DecoderError` when there is no memory.
  public init(
    model: LanguageModel, target: LanguageModel, fallback: Double = 0.6, capacity: Int, source: [TokenID] = []
  ) throws {
    self.model = model
    self.fallback = try FallbackThreshold(fallback)
    cache = try model.decoder.makeCache(capacity: max(1, min(capacity, model.contextLength)))
    buffers = DecodingBuffers(decoder: model.decoder)
    if model.hasEncoder { try model.decoder.encode(source, into: cache) }
    profile = DrafterProfile(
      writer: .draft, costPerToken: Double(model.bytesPerToken) / Double(max(target.bytesPerToken, 1)))
  }

  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft {
    guard limit > 0, let last = history.last, history.count <= cache.capacity else { return Draft() }
    let clock = ContinuousClock()
    let start = clock.now
    // What the large model has replaced leaves the cache; only what was drafted last can differ. The last token always
    // goes through the layers again, for its hidden state is not kept.
    var common = min(known, cached.count)
    while common < min(cached.count, history.count), cached[common] == history[common] { common += 1 }
    crop(to: min(common, history.count - 1))
    while cached.count < history.count - 1 {
      let end = min(cached.count + DecodingBuffers.prefillChunk, history.count - 1)
      try push(history[cached.count..<end])
    }
    known = history.count
    var draft = Draft()
    draft.cacheSeconds = (clock.now - start).seconds
    var next = last
    while draft.tokens.count < limit, cached.count < cache.capacity, !model.endTokens.contains(next) {
      try push([next])
      var token: TokenID?
      try buffers.withLogits(rows: 0..<1) { _, logits in token = fallback.draft(logits) }
      guard let token else { break }
      draft.tokens.append(token)
      next = token
    }
    return draft
  }

  public func crop(to count: Int) {
    known = min(known, count)
    cached.removeSubrange(min(count, cached.count)...)
    cache.crop(to: cached.count)
  }

  private func push(_ tokens: ArraySlice<TokenID>) throws {
    try buffers.advance(tokens, cache: cache, position: cached.count)
    cached.append(contentsOf: tokens)
  }
}
