import Transformers

/// Normalised hidden states of output tokens after several layers, with the tokens that the full model chose.
struct StateSample {
  /// The rows of one text, and its prompt.
  struct Text {
    var rows: Range<Int>
    var prompt: [TokenID]
  }

  let limit: Int
  /// The full model's token, by row.
  private(set) var best: [TokenID] = []
  private(set) var texts: [Text] = []
  /// By layer.
  private var states: [Int: HalfRows]

  init(layers: [Int], size: Int, limit: Int) {
    self.limit = limit
    states = Dictionary(uniqueKeysWithValues: layers.map { ($0, HalfRows(size: size)) })
  }

  var count: Int { best.count }
  var room: Int { max(limit - count, 0) }

  /// Appends rows of one text: (rows, size) by layer.
  mutating func append(_ batch: [Int: ArraySlice<Float>], best: [TokenID], prompt: [TokenID]) {
    guard !best.isEmpty else { return }
    for (layer, rows) in batch { states[layer]?.append(rows) }
    texts.append(Text(rows: count..<count + best.count, prompt: prompt))
    self.best += best
  }

  /// (rows.count, size)
  func states(_ rows: Range<Int>, layer: Int) -> [Float] { states[layer]?[rows] ?? [] }

  /// (rows.count, size), for rows in any order.
  func states(at rows: [Int], layer: Int) -> [Float] {
    rows.flatMap { states($0..<$0 + 1, layer: layer) }
  }

  private static let batch = 64

  /// What an exit head says of a state.
  struct Choice {
    var token: TokenID
    /// Probability of the best token minus that of the second best.
    var margin: Double
  }

  /// The choice of the exit head of a layer for every state.
  func choices(_ decoder: any DecoderModel, layer: Int, heads: PreparedHeads) throws -> [Choice] {
    try texts.flatMap {
      try Self.choices(
        of: states($0.rows, layer: layer), prompt: $0.prompt, decoder: decoder, layer: layer, heads: heads)
    }
  }

  /// The choice of the exit head of a layer for states of one text, (rows, hiddenSize): its map, then the shortlist and
  /// the prompt's tokens, or the whole vocabulary.
  static func choices(
    of states: [Float], prompt: [TokenID], decoder: any DecoderModel, layer: Int, heads: PreparedHeads
  ) throws -> [Choice] {
    let size = decoder.configuration.hiddenSize
    let additions = try heads.additions(of: prompt, decoder: decoder)
    let candidates = (heads.shortlist?.tokens ?? []) + (additions?.tokens ?? [])
    var result: [Choice] = []
    var logits: [Float] = []
    var others: [Float] = []
    for start in stride(from: 0, to: states.count, by: batch * size) {
      var mapped = Array(states[start..<min(start + batch * size, states.count)])
      let count = mapped.count / size
      if let map = heads.maps[layer] { try decoder.product(map, of: Array(mapped), into: &mapped) }
      guard let shortlist = heads.shortlist else {
        result += try withLogits(decoder, of: mapped, count: count) {
          Choice(token: Logits.argmax($0), margin: SoftmaxConfidence.margin($0))
        }
        continue
      }
      try decoder.product(shortlist.rows, of: mapped, into: &logits)
      if let additions { try decoder.product(additions.rows, of: mapped, into: &others) }
      let (width, more) = (shortlist.tokens.count, additions?.tokens.count ?? 0)
      for row in 0..<count {
        let all = logits[row * width..<(row + 1) * width] + others[row * more..<(row + 1) * more]
        result.append(
          all.withUnsafeBufferPointer {
            Choice(token: candidates[Logits.argmax($0)], margin: SoftmaxConfidence.margin($0))
          })
      }
    }
    return result
  }

  /// Hands over the logits of the whole vocabulary by the shared head, row by row; `states` is (count, hiddenSize).
  static func withLogits<Result>(
    _ decoder: any DecoderModel, of states: [Float], count: Int,
    _ body: (UnsafeBufferPointer<Float>) -> Result
  ) throws -> [Result] {
    guard count > 0 else { return [] }
    let size = decoder.configuration.hiddenSize
    let batch = HiddenStates(hiddenSize: size, capacity: count)
    batch.count = count
    for row in 0..<count { batch[row] = Array(states[row * size..<(row + 1) * size]) }
    let vocabulary = decoder.configuration.vocabularySize
    var logits: [Float] = []
    try decoder.logits(of: batch, rows: 0..<count, into: &logits)
    return logits.withUnsafeBufferPointer { logits in
      (0..<count).map {
        body(UnsafeBufferPointer(rebasing: logits[$0 * vocabulary..<($0 + 1) * vocabulary]))
      }
    }
  }
}
