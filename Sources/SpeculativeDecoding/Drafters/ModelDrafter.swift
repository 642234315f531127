import EarlyExit
import Generation
import Transformers

/// Drafts with a smaller model, greedily, until it is unsure (Kim et al., "Speculative decoding with big little
/// decoder", NeurIPS 2023).
public final class ModelDrafter: Drafter {
  /// Its price is the small model's bytes for a token, in those of the large one.
  public let profile: DrafterProfile

  let model: LanguageModel
  let prompt: [TokenID]
  private let fallback: FallbackThreshold
  let cache: KeyValueCache
  private var buffers: DecodingBuffers
  private(set) var exits: ExitingDraft?
  /// Tokens whose keys and values are in the cache: `known` of the history, then drafted ones.
  private(set) var cached: [TokenID] = []
  /// Tokens of the history that were there at the last call.
  private var known = 0
  /// Bytes of weights read at full depth for the draft at hand.
  private var bytes = 0

  /// - Parameters:
  ///   - model: The small model.
  ///   - target: The large model.
  ///   - fallback: α_FB, in 0...1: the first token less probable than this is dropped and the draft ends before it.
  ///   - prompt: What the history begins with.
  ///   - maxTokens: Tokens that may follow it; what does not fit the model's context is not drafted.
  ///   - exits: Where the small model's own tokens may leave its layers early, or `nil` for full depth.
  /// - Throws: ``SpeculativeDecodingError`` for a threshold out of range, `EarlyExitError` for exits that do not fit
  ///   the small model, `DecoderError` when there is no memory.
  public init(
    model: LanguageModel, target: LanguageModel, prompt: [TokenID], maxTokens: Int, fallback: Double = 0.6,
    exits: ExitStrategy? = nil
  ) throws {
    self.model = model
    self.prompt = prompt
    self.fallback = try FallbackThreshold(fallback)
    let room = min(maxTokens, model.contextLength)
    let cache = try model.decoder.makeCache(
      capacity: max(1, min(prompt.count + room, model.contextLength)))
    self.cache = cache
    self.exits = try exits.map {
      try ExitingDraft($0, decoder: model.decoder, cache: cache, prompt: prompt, maxTokens: maxTokens)
    }
    buffers = DecodingBuffers(decoder: model.decoder)
    try model.decoder.sourceEncoder?.encode(prompt, into: cache)
    profile = DrafterProfile(
      writer: .draft, costPerToken: Double(model.bytesPerToken) / Double(max(target.bytesPerToken, 1)))
  }

  /// Reads what is new in the text, then drafts greedily until the small model is unsure.
  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft {
    guard limit > 0, let last = history.last, history.count <= cache.capacity else { return Draft() }
    let clock = ContinuousClock()
    let start = clock.now
    // What the large model has replaced leaves the cache; only what was drafted last can differ. The last token always
    // goes through the layers again, for its hidden state is not kept.
    var common = min(known, cached.count)
    while common < min(cached.count, history.count), cached[common] == history[common] { common += 1 }
    crop(to: min(common, history.count - 1))
    if cached.count < history.count - 1 { try exits?.complete() }
    // Reading the prompt is no part of decoding, nor is the large model's.
    let isPrompt = known == 0
    let before = exits?.bytesRead ?? 0
    bytes = 0
    while cached.count < history.count - 1 {
      let end = min(cached.count + DecodingBuffers.prefillChunk, history.count - 1)
      try push(history[cached.count..<end])
      if isPrompt { bytes = 0 }
    }
    known = history.count
    var draft = Draft()
    draft.cacheSeconds = (clock.now - start).seconds
    var next = last
    while draft.tokens.count < limit, cached.count < cache.capacity, !model.endTokens.contains(next) {
      guard let token = try guess(after: next) else { break }
      draft.tokens.append(token)
      if draft.tokens == [target.guess] { break }
      next = token
    }
    draft.bytesRead = bytes + (exits?.bytesRead ?? 0) - before
    return draft
  }

  /// Takes tokens that were rolled back out of the small model's cache.
  public func crop(to count: Int) {
    known = min(known, count)
    cached.removeSubrange(min(count, cached.count)...)
    cache.crop(to: cached.count)
    exits?.crop(to: cached.count)
  }

  /// Notes that the first tokens of the prompt are in the cache already.
  func take(_ count: Int) { cached = Array(prompt.prefix(count)) }

  /// The small model's next token, or `nil` when it is unsure.
  private func guess(after token: TokenID) throws -> TokenID? {
    var guess: TokenID?
    if exits != nil {
      guess = try exits?.push(token, position: cached.count) { fallback.draft($0, of: $1) } ?? nil
      cached.append(token)
    } else {
      try push([token])
      try buffers.withLogits(rows: 0..<1) { _, logits in guess = fallback.draft(logits) }
      bytes += model.decoder.bytesOfUnembedding
    }
    return guess
  }

  private func push(_ tokens: ArraySlice<TokenID>) throws {
    try buffers.advance(tokens, cache: cache, position: cached.count)
    cached.append(contentsOf: tokens)
    bytes += model.decoder.bytesPerLayer * model.decoder.configuration.layerCount
  }
}
