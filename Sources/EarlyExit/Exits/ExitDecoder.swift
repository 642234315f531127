import Generation
import Transformers

/// A token on its way through the layers: where it stands in its sequence, and its state after `layer` layers.
struct LayeredRow {
  var position: Int
  var layer: Int
  /// (hiddenSize)
  var state: [Float]
}

/// Chooses the next token of a sequence, leaving early where the strategy says so.
package struct ExitDecoder: TokenStepper {
  let strategy: ExitStrategy
  /// Ascending; the last layer is among them only where a shortlist makes it an exit.
  let layers: [Int]
  let decoder: any DecoderModel
  let layerCount: Int
  let scratch: HiddenStates
  private let bytesOfPropagation: Int
  var head: ExitHead
  /// Tokens that left early and whose deeper layers are still to be run, in ascending order of position.
  var deferred: [LayeredRow] = []
  /// Bytes of weights read in layers since a pass began, less what the head had read then.
  var bytes = 0

  /// - Parameter rows: Tokens of a sequence that are run together, beside those whose completion is pending.
  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model, ``DecoderError`` when memory for its
  ///   heads is not to be had.
  package init(_ strategy: ExitStrategy, decoder: any DecoderModel, rows: Int = 1) throws {
    self.strategy = strategy
    self.decoder = decoder
    layers = try strategy.validatedLayers(for: decoder)
    head = try ExitHead(layers.isEmpty ? nil : strategy.heads, decoder: decoder)
    let configuration = decoder.configuration
    layerCount = configuration.layerCount
    scratch = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: strategy.groupLimit + rows)
    // Keys and values: their share of a layer's weights.
    let projected = configuration.headSize * 2 * configuration.keyValueHeadCount
    let others = configuration.headSize * 2 * configuration.headCount + 3 * configuration.feedForwardSize
    bytesOfPropagation = decoder.bytesPerLayer * projected / max(projected + others, 1)
  }

  /// Runs the last token of a sequence and chooses the next.
  package mutating func step(_ sequence: SequenceDecoding) throws -> TokenStep? {
    guard let (token, row) = sequence.pending else { return nil }
    let (layer, record) = try run(
      token, at: row, prompt: sequence.headTokenIDs, tokenIndex: sequence.generated.count,
      maxTokens: sequence.maxTokens)
    return try head.logits.withUnsafeBufferPointer {
      try sequence.accept($0, of: head.candidates, layer: layer, depth: record)
    }
  }

  /// Runs a token to the layer after which it leaves; the head then has the logits that the next token is chosen from.
  ///
  /// - Parameters:
  ///   - prompt: That of the sequence.
  ///   - tokenIndex: The place in the output of the token that is being chosen.
  mutating func run(
    _ token: TokenID, at row: BatchRow, prompt: [TokenID], tokenIndex: Int, maxTokens: Int
  ) throws -> (layer: Int, depth: DepthRecord) {
    beginCounting()
    try decoder.embed([token], into: scratch)
    var rows = deferred
    rows.append(LayeredRow(position: row.position, layer: 0, state: scratch[0]))
    let current = rows.count - 1

    var checks: [ExitCheck] = []
    var early: ExitReason?
    var logitsAreCurrent = false
    for layer in layers {
      var reading = ConfidenceReading(layer: layer)
      if strategy.measure.reads.contains(.previousHiddenState) {
        try advance(&rows, to: layer - 1, cache: row.cache)
        reading.previousHiddenState = rows[current].state
      }
      try advance(&rows, to: layer, cache: row.cache)
      if strategy.measure.reads.contains(.hiddenState) { reading.hiddenState = rows[current].state }
      if strategy.measure.reads.contains(.logits) {
        try head.run(rows[current].state, layer: layer, prompt: prompt)
        reading.logits = head.logits
      }
      let confidence = strategy.measure.boundedConfidence(reading)
      checks.append(ExitCheck(layer: layer, confidence: confidence))
      let decision = strategy.policy.decide(
        ExitObservation(
          layer: layer, layerCount: layerCount, confidence: confidence,
          tokenIndex: tokenIndex, maxTokens: maxTokens))
      guard case .exit(let chosen, let why) = decision else { continue }
      guard chosen == layer else {
        throw EarlyExitError.option(field: "exit decision", expected: "layer \(layer)", found: "\(chosen)")
      }
      early = why
      logitsAreCurrent = !reading.logits.isEmpty
      break
    }
    if early == nil {
      try advance(&rows, to: layerCount, cache: row.cache)
      try head.runFull(rows[current].state)
    } else if !logitsAreCurrent {
      try head.run(rows[current].state, layer: rows[current].layer, prompt: prompt)
    }
    let layer = rows[current].layer
    deferred = try kept(rows, cache: row.cache)
    return (layer, DepthRecord(reason: early ?? .lastLayer, checks: checks, bytesRead: bytesRead))
  }

  mutating func beginCounting() { bytes = -head.bytesRead }
  /// Bytes of weights read since ``beginCounting()``.
  var bytesRead: Int { bytes + head.bytesRead }

  /// Completes the keys and values of every token that left early.
  package mutating func complete(_ sequence: SequenceDecoding) throws { try complete(sequence.cache) }

  mutating func complete(_ cache: KeyValueCache) throws {
    var rows = deferred
    try advance(&rows, to: layerCount, cache: cache)
    deferred = []
  }

  /// Forgets the tokens whose completion is pending: the output begins again.
  package mutating func forget() { deferred = [] }

  /// Takes rows that stand below `target` up to it, each layer as one batch of all rows that need it.
  ///
  /// Rows ascend in position, and an earlier one has passed at least as many layers as a later one: a token cannot pass
  /// a layer that those before it have not.
  mutating func advance(_ rows: inout [LayeredRow], to target: Int, cache: KeyValueCache) throws {
    while let start = rows.last?.layer, start < target {
      let first = rows.firstIndex { $0.layer == start } ?? rows.count - 1
      let end = first == 0 ? target : min(rows[first - 1].layer, target)
      scratch.count = rows.count - first
      for index in first..<rows.count { scratch[index - first] = rows[index].state }
      try decoder.advance(
        scratch, rows: rows[first...].map { BatchRow(cache: cache, position: $0.position) },
        layers: start..<end)
      bytes += (end - start) * decoder.bytesPerLayer
      for index in first..<rows.count {
        rows[index].state = scratch[index - first]
        rows[index].layer = end
      }
    }
  }

  /// Settles the skipped layers' cache; the tokens whose completion is pending now.
  mutating func kept(_ rows: [LayeredRow], cache: KeyValueCache) throws -> [LayeredRow] {
    var rows = rows.filter { $0.layer < layerCount }
    switch strategy.cachePolicy {
    case .propagate:
      guard let row = rows.last else { return [] }
      scratch.count = 1
      scratch[0] = row.state
      try decoder.propagate(
        scratch, rows: [BatchRow(cache: cache, position: row.position)], layers: row.layer..<layerCount)
      bytes += (layerCount - row.layer) * bytesOfPropagation
      return []
    case .defer:
      guard rows.count >= strategy.groupLimit else { return rows }
      try advance(&rows, to: layerCount, cache: cache)
      return []
    }
  }
}
