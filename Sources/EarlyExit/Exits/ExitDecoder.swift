import Generation
import Transformers

/// Chooses the next token of a sequence, leaving early where the strategy says so.
package final class ExitDecoder: TokenStepper {
  let strategy: ExitStrategy
  /// Ascending; the last layer is among them only where a shortlist makes it an exit.
  let layers: [Int]
  let decoder: any DecoderModel
  let layerCount: Int
  private let bytesOfPropagation: Int
  private let runner = PassRunner()
  var head: ExitHead
  /// Tokens that left early and whose deeper layers are still to be run, in ascending order of position.
  var deferred: [LayeredRow] = []
  /// Bytes of weights read in layers since a pass began, less what the head had read then.
  var bytes = 0

  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model, ``DecoderError`` when memory for its
  ///   heads is not to be had.
  package init(_ strategy: ExitStrategy, decoder: any DecoderModel) throws {
    self.strategy = strategy
    self.decoder = decoder
    layers = try strategy.validatedLayers(for: decoder)
    head = try ExitHead(layers.isEmpty ? nil : strategy.heads, decoder: decoder)
    let configuration = decoder.configuration
    layerCount = configuration.layerCount
    // Keys and values: their share of a layer's weights.
    let projected = configuration.headSize * 2 * configuration.keyValueHeadCount
    let others = configuration.headSize * 2 * configuration.headCount + 3 * configuration.feedForwardSize
    bytesOfPropagation = decoder.bytesPerLayer * projected / max(projected + others, 1)
  }

  package func pass(
    _ sequence: SequenceDecoding, _ take: @escaping (TokenStep) throws -> Void
  ) throws -> PassWork? {
    try pass(sequence, guesses: []) { _, logits in
      try take(
        sequence.accept(logits.values, of: logits.candidates, layer: logits.layer, depth: logits.depth))
      return false
    }
  }

  /// A pass of the last token of a sequence and of guessed ones after it, each to the layer after which it leaves.
  ///
  /// With deferred completion every token leaves where it would without guesses, with the same logits to the bit. Rows
  /// share each pass through a layer. The caller appends the tokens and crops the cache.
  ///
  /// - Parameter take: Is given the row, from 0, its logits and how it came to them; `false` ends the pass, and tokens
  ///   after that row are forgotten.
  package func pass(
    _ sequence: SequenceDecoding, guesses: [TokenID],
    _ take: @escaping (_ row: Int, ExitLogits) throws -> Bool
  ) throws -> PassWork? {
    guard let (token, row) = sequence.pending else { return nil }
    let place = ExitPass.Place(
      row: row, prompt: sequence.headTokenIDs, tokenIndex: sequence.generated.count,
      maxTokens: sequence.maxTokens)
    return try ExitPass(self, [token] + guesses, at: place, take).begin()
  }

  /// Runs the last token of a sequence and chooses the next.
  package func step(_ sequence: SequenceDecoding) throws -> TokenStep? {
    var step: TokenStep?
    _ = try runner.run(pass(sequence) { step = $0 })
    return step
  }

  /// Runs a token to the layer after which it leaves, without other sequences; the head then has the logits that the
  /// next token is chosen from.
  ///
  /// - Returns: Bytes of weights that were read.
  func run(_ token: TokenID, at place: ExitPass.Place) throws -> Int {
    var bytes = 0
    let pass = ExitPass(self, [token], at: place) { _, logits in
      bytes = logits.depth?.bytesRead ?? 0
      return false
    }
    _ = try runner.run(pass.begin())
    return bytes
  }

  func beginCounting() { bytes = -head.bytesRead }
  /// Bytes of weights read since ``beginCounting()``.
  var bytesRead: Int { bytes + head.bytesRead }

  /// Completes the keys and values of every token that left early.
  package func complete(_ sequence: SequenceDecoding) throws { try complete() }

  func complete() throws {
    _ = try runner.run(
      advance(deferred, to: layerCount) { _ in
        self.deferred = []
        return nil
      })
  }

  /// Forgets the tokens whose completion is pending: the output begins again.
  package func forget() { deferred = [] }

  /// Takes rows that stand below `target` up to it, each layer as one batch of all rows that need it.
  func advance(
    _ rows: [LayeredRow], to target: Int, _ then: @escaping ([LayeredRow]) throws -> PassWork?
  ) throws -> PassWork? {
    guard let lowest = rows.last?.layer, lowest < target else { return try then(rows) }
    bytes += (target - lowest) * decoder.bytesPerLayer
    return .layers(decoder, rows, to: target, then: then)
  }

  /// Settles the skipped layers' cache after a pass of `rows`.
  func settle(_ rows: [LayeredRow], _ then: @escaping () throws -> PassWork?) throws -> PassWork? {
    let rows = rows.filter { $0.layer < layerCount }
    deferred = []
    switch strategy.cachePolicy {
    case .propagate:
      guard let row = rows.last else { return try then() }
      bytes += (layerCount - row.layer) * bytesOfPropagation
      return .propagation(decoder, row, then: then)
    case .defer:
      guard rows.count < strategy.groupLimit else {
        return try advance(rows, to: layerCount) { _ in try then() }
      }
      deferred = rows
      return try then()
    }
  }
}
