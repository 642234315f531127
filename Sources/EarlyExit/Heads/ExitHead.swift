import Generation
import Transformers

/// What turns hidden states of one sequence into logits: the model's own head, and those of the layers that tokens may
/// leave after.
package struct ExitHead {
  private let decoder: any DecoderModel
  private let layerHeads: PreparedHeads?
  private let scratch: HiddenStates
  /// The prompt's tokens that the shortlist lacks, once the prompt is known.
  private var additions: PreparedHeads.Candidates?
  private var knowsAdditions = false
  /// Shortlist and additions, and the logits of the latter.
  private var reduced: [TokenID] = []
  private var additionsPart: [Float] = []
  /// (states, tokens): of the whole vocabulary, or of ``candidates``.
  package private(set) var logits: [Float] = []
  /// The tokens that the logits are of; `nil` for the whole vocabulary.
  package private(set) var candidates: [TokenID]?
  /// Bytes of weights read so far.
  package private(set) var bytesRead = 0

  /// - Parameter rows: States that may be run together.
  /// - Throws: ``DecoderError`` when memory for the heads is not to be had.
  package init(_ heads: ExitHeads?, decoder: any DecoderModel, rows: Int = 1) throws(DecoderError) {
    self.decoder = decoder
    layerHeads = try heads?.prepared(for: decoder)
    scratch = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: rows)
  }

  /// Bytes of weights that the head of a layer reads, but for a prompt's own tokens.
  package func byteCount(layer: Int) -> Int {
    (layerHeads?.maps[layer]?.byteCount ?? 0)
      + (layerHeads?.shortlist?.rows.byteCount ?? decoder.bytesOfUnembedding)
  }

  /// The model's own head.
  ///
  /// - Parameter states: (count, hiddenSize), with a count of at most the rows that may be run together.
  mutating func runFull(_ states: [Float]) throws(DecoderError) {
    var logits: [Float] = []
    swap(&logits, &self.logits)
    try unembed(states, into: &logits)
    finishFull(logits)
  }

  private func unembed(_ states: [Float], into logits: inout [Float]) throws(DecoderError) {
    let size = scratch.hiddenSize
    scratch.count = states.count / size
    for row in 0..<scratch.count { scratch[row] = Array(states[row * size..<(row + 1) * size]) }
    try decoder.logits(of: scratch, rows: 0..<scratch.count, into: &logits)
  }

  /// Gathers the prompt's own rows of the unembedding, once: from a mapped file that takes several milliseconds.
  package mutating func prepare(_ prompt: [TokenID]) throws(DecoderError) {
    guard !knowsAdditions else { return }
    additions = try layerHeads?.additions(of: prompt, decoder: decoder)
    reduced = (layerHeads?.shortlist?.tokens ?? []) + (additions?.tokens ?? [])
    knowsAdditions = true
  }

  /// The head of the layer that a token may leave after: its map, then the shortlist, or the whole vocabulary where
  /// there is none.
  ///
  /// - Parameters:
  ///   - states: (count, hiddenSize), with a count of at most the rows that may be run together.
  ///   - prompt: That of the sequence, always the same: its tokens join the shortlist.
  package mutating func run(_ states: [Float], layer: Int, prompt: [TokenID]) throws(DecoderError) {
    var shared = try sharedLogits(of: states, layer: layer)
    try finish(&shared, layer: layer, prompt: prompt)
  }

  /// What the head of a layer computes that no prompt changes, for rows that may be of several sequences.
  package struct SharedLogits {
    /// (count, hiddenSize): after the layer's map.
    fileprivate var states: [Float]
    /// (count, tokens): of the shortlist, or of the whole vocabulary where there is none.
    fileprivate var logits: [Float]

    /// Those of one row, of `count`.
    package func row(_ row: Int, of count: Int) -> SharedLogits {
      func part(_ values: [Float]) -> [Float] {
        let width = values.count / count
        return Array(values[row * width..<(row + 1) * width])
      }
      return SharedLogits(states: part(states), logits: part(logits))
    }
  }

  /// ``sharedLogits(of:layer:)`` of rows that stand after `layer`, as a part of their pass.
  ///
  /// - Parameter then: Goes on with them: to ``finish(_:layer:prompt:)``.
  package func work(
    _ rows: [LayeredRow], layer: Int, _ then: @escaping (SharedLogits) throws -> PassWork?
  ) -> PassWork {
    let (decoder, shortlist) = (decoder, layerHeads?.shortlist?.rows)
    func unembed(_ rows: [LayeredRow]) -> PassWork {
      .head(decoder, shortlist, rows) {
        try then(SharedLogits(states: rows.flatMap(\.state), logits: Array($0)))
      }
    }
    guard let map = layerHeads?.maps[layer] else { return unembed(rows) }
    return .head(decoder, map, rows) { values in
      let width = values.count / rows.count
      return unembed(
        rows.enumerated().map { index, row in
          LayeredRow(
            place: row.place, layer: row.layer, state: Array(values[index * width..<(index + 1) * width]))
        })
    }
  }

  /// The model's own head, as a part of a pass.
  package func fullWork(
    _ row: LayeredRow, _ then: @escaping ([Float]) throws -> PassWork?
  ) -> PassWork {
    .head(decoder, nil, [row]) { try then(Array($0)) }
  }

  /// Takes logits that the model's own head gave.
  package mutating func finishFull(_ logits: [Float]) {
    self.logits = logits
    candidates = nil
    bytesRead += decoder.bytesOfUnembedding
  }

  /// The part of ``run(_:layer:prompt:)`` that no prompt changes.
  ///
  /// - Parameter states: (count, hiddenSize), with a count of at most the rows that may be run together; of any
  ///   sequences.
  package mutating func sharedLogits(of states: [Float], layer: Int) throws(DecoderError) -> SharedLogits {
    var states = states
    if let map = layerHeads?.maps[layer] {
      let input = states
      try decoder.product(map, of: input, into: &states)
    }
    var logits: [Float] = []
    if let shortlist = layerHeads?.shortlist {
      try decoder.product(shortlist.rows, of: states, into: &logits)
    } else {
      try unembed(states, into: &logits)
    }
    return SharedLogits(states: states, logits: logits)
  }

  /// Adds what the prompt's own tokens get.
  ///
  /// - Parameters:
  ///   - shared: From ``sharedLogits(of:layer:)``; its logits are taken.
  ///   - prompt: That of the sequence of all its rows.
  package mutating func finish(
    _ shared: inout SharedLogits, layer: Int, prompt: [TokenID]
  ) throws(DecoderError) {
    bytesRead += byteCount(layer: layer)
    guard let shortlist = layerHeads?.shortlist else {
      swap(&logits, &shared.logits)
      candidates = nil
      return
    }
    try prepare(prompt)
    candidates = reduced
    guard let additions else {
      swap(&logits, &shared.logits)
      return
    }
    try decoder.product(additions.rows, of: shared.states, into: &additionsPart)
    bytesRead += additions.rows.byteCount
    let (own, added) = (shortlist.tokens.count, additions.tokens.count)
    logits.removeAll(keepingCapacity: true)
    for row in 0..<shared.states.count / scratch.hiddenSize {
      logits += shared.logits[row * own..<(row + 1) * own]
      logits += additionsPart[row * added..<(row + 1) * added]
    }
  }

  /// Puts back logits that were there before.
  mutating func restore(_ logits: [Float], of candidates: [TokenID]?) {
    self.logits = logits
    self.candidates = candidates
  }
}
