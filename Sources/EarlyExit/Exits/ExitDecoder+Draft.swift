import Generation
import Transformers

/// The logits that a token is chosen from, and how its row came to them.
package struct ExitLogits {
  package let values: UnsafeBufferPointer<Float>
  /// The tokens that they are of; `nil` for the whole vocabulary.
  package let candidates: [TokenID]?
  package let layer: Int
  /// `nil` where exits were not asked for.
  package let depth: DepthRecord?

  package init(
    _ values: UnsafeBufferPointer<Float>, of candidates: [TokenID]? = nil, layer: Int,
    depth: DepthRecord? = nil
  ) {
    self.values = values
    self.candidates = candidates
    self.layer = layer
    self.depth = depth
  }
}

/// A draft model's decoding with early exits: its tokens are chosen, and taken back, by whoever drafts.
package struct ExitingDraft {
  private let exits: ExitDecoder
  private let cache: KeyValueCache
  private let prompt: [TokenID]
  private let maxTokens: Int
  /// Bytes of weights read so far.
  package private(set) var bytesRead = 0

  /// - Parameter cache: The draft model's.
  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model.
  package init(
    _ strategy: ExitStrategy, decoder: any DecoderModel, cache: KeyValueCache, prompt: [TokenID],
    maxTokens: Int
  ) throws {
    exits = try ExitDecoder(strategy, decoder: decoder)
    self.cache = cache
    self.prompt = prompt
    self.maxTokens = maxTokens
  }

  /// Runs a token to the layer after which it leaves, and hands over its logits and the tokens they are of, `nil` for
  /// the whole vocabulary.
  package mutating func push<Result>(
    _ token: TokenID, position: Int, _ body: (UnsafeBufferPointer<Float>, [TokenID]?) throws -> Result
  ) throws -> Result {
    bytesRead += try exits.run(
      token,
      at: ExitPass.Place(
        row: BatchRow(cache: cache, position: position), prompt: prompt,
        tokenIndex: position + 1 - prompt.count, maxTokens: maxTokens))
    return try exits.head.logits.withUnsafeBufferPointer { try body($0, exits.head.candidates) }
  }

  /// Runs the layers that tokens skipped, so that a batch may follow at full depth.
  package mutating func complete() throws {
    exits.beginCounting()
    try exits.complete()
    bytesRead += exits.bytesRead
  }

  /// Forgets every token from position `count` on.
  package mutating func crop(to count: Int) {
    exits.deferred.removeAll { $0.place.position >= count }
    cache.crop(to: count)
  }
}
