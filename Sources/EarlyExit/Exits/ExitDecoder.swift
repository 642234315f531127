import DecoderModels

/// A token on its way through the layers: where it stands in its sequence, and its state after `layer` layers.
struct LayeredRow {
  var position: Int
  var layer: Int
  /// (hiddenSize)
  var state: [Float]
}

/// Chooses the next token of a sequence, leaving early where the strategy says so.
struct ExitDecoder {
  let strategy: ExitStrategy
  /// Ascending; the last layer is among them only where a shortlist makes it an exit.
  let layers: [Int]
  private let decoder: any DecoderModel
  private let layerCount: Int
  private let scratch: HiddenStates
  private let bytesOfPropagation: Int
  private let heads: PreparedHeads?
  /// The prompt's tokens that the shortlist lacks, once the sequence is known.
  private var additions: PreparedHeads.Candidates?
  private var knowsAdditions = false
  /// Of the whole vocabulary, or of the shortlist and then the additions.
  private var logits: [Float] = []
  private var reducedPart: [Float] = []
  private var bytes = 0

  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model, ``DecoderError`` when memory for its
  ///   heads is not to be had.
  init(_ strategy: ExitStrategy, decoder: any DecoderModel) throws {
    self.strategy = strategy
    self.decoder = decoder
    layers = try strategy.validatedLayers(for: decoder)
    heads = layers.isEmpty ? nil : try strategy.heads?.prepared(for: decoder)
    let configuration = decoder.configuration
    layerCount = configuration.layerCount
    scratch = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: strategy.groupLimit + 1)
    // Queries, keys and values are projected together: their share of a layer's weights.
    let attention = configuration.headSize * (configuration.headCount + 2 * configuration.keyValueHeadCount)
    let others = configuration.headSize * configuration.headCount + 3 * configuration.feedForwardSize
    bytesOfPropagation = decoder.bytesPerLayer * attention / max(attention + others, 1)
  }

  /// Runs the last token of a sequence and chooses the next.
  mutating func step(_ sequence: SequenceDecoding) throws -> TokenStep? {
    guard let (token, row) = sequence.pending else { return nil }
    bytes = 0
    try decoder.embed([token], into: scratch)
    var rows = sequence.deferred
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
        try runExitHead(rows[current], of: sequence)
        reading.logits = logits
      }
      let confidence = strategy.measure.boundedConfidence(reading)
      checks.append(ExitCheck(layer: layer, confidence: confidence))
      let decision = strategy.policy.decide(
        ExitObservation(
          layer: layer, layerCount: layerCount, confidence: confidence,
          tokenIndex: sequence.generated.count, maxTokens: sequence.maxTokens))
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
      try runHead(rows[current].state)
    } else if !logitsAreCurrent {
      try runExitHead(rows[current], of: sequence)
    }
    let layer = rows[current].layer
    try keep(rows, of: sequence, cache: row.cache)
    let record = DepthRecord(reason: early ?? .lastLayer, checks: checks, bytesRead: bytes)
    return try logits.withUnsafeBufferPointer {
      try sequence.accept($0, of: early == nil ? nil : candidates, layer: layer, depth: record)
    }
  }

  /// Completes the keys and values of every token that left early.
  mutating func complete(_ sequence: SequenceDecoding) throws {
    var rows = sequence.deferred
    try advance(&rows, to: layerCount, cache: sequence.cache)
    sequence.deferred = []
  }

  /// Takes rows that stand below `target` up to it, each layer as one batch of all rows that need it.
  ///
  /// Rows ascend in position, and an earlier one has passed at least as many layers as a later one: a token cannot pass
  /// a layer that those before it have not.
  private mutating func advance(_ rows: inout [LayeredRow], to target: Int, cache: KeyValueCache) throws {
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

  /// Settles the skipped layers' cache.
  private mutating func keep(_ rows: [LayeredRow], of sequence: SequenceDecoding, cache: KeyValueCache) throws
  {
    var rows = rows.filter { $0.layer < layerCount }
    switch strategy.cachePolicy {
    case .propagate:
      guard let row = rows.last else { return }
      scratch.count = 1
      scratch[0] = row.state
      try decoder.propagate(
        scratch, rows: [BatchRow(cache: cache, position: row.position)], layers: row.layer..<layerCount)
      bytes += (layerCount - row.layer) * bytesOfPropagation
    case .defer:
      if rows.count >= strategy.groupLimit {
        try advance(&rows, to: layerCount, cache: cache)
        rows = []
      }
      sequence.deferred = rows
    }
  }

  /// The model's own head.
  private mutating func runHead(_ state: [Float]) throws {
    scratch.count = 1
    scratch[0] = state
    try decoder.logits(of: scratch, rows: 0..<1, into: &logits)
    bytes += decoder.bytesOfUnembedding
  }

  /// The head of the layer that a token may leave after: its map, then the shortlist, or the whole vocabulary where
  /// there is none.
  private mutating func runExitHead(_ row: LayeredRow, of sequence: SequenceDecoding) throws {
    var state = row.state
    if let map = heads?.maps[row.layer] {
      try decoder.product(map, of: row.state, into: &state)
      bytes += map.byteCount
    }
    guard let shortlist = heads?.shortlist else { return try runHead(state) }
    if !knowsAdditions {
      additions = try heads?.additions(of: sequence.prompt, decoder: decoder)
      knowsAdditions = true
    }
    try decoder.product(shortlist.rows, of: state, into: &logits)
    bytes += shortlist.rows.byteCount
    if let additions {
      try decoder.product(additions.rows, of: state, into: &reducedPart)
      logits += reducedPart
      bytes += additions.rows.byteCount
    }
  }

  /// The tokens that the logits of an exit head are of; `nil` for the whole vocabulary.
  private var candidates: [TokenID]? {
    heads?.shortlist.map { $0.tokens + (additions?.tokens ?? []) }
  }
}
