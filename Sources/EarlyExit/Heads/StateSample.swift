import DecoderModels

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

  private static let batch = 64

  /// The best token of every state by the exit head of a layer: its map, then the shortlist and the prompt's tokens, or
  /// the whole vocabulary.
  func exitTokens(_ decoder: any DecoderModel, layer: Int, heads: PreparedHeads) throws -> [TokenID] {
    var result: [TokenID] = []
    result.reserveCapacity(count)
    var logits: [Float] = []
    var others: [Float] = []
    for text in texts {
      let additions = try heads.additions(of: text.prompt, decoder: decoder)
      for start in stride(from: text.rows.lowerBound, to: text.rows.upperBound, by: Self.batch) {
        let rows = start..<min(start + Self.batch, text.rows.upperBound)
        var mapped = states(rows, layer: layer)
        if let map = heads.maps[layer] {
          try decoder.product(map, of: states(rows, layer: layer), into: &mapped)
        }
        guard let shortlist = heads.shortlist else {
          result += try Self.bestTokens(decoder, of: mapped, count: rows.count)
          continue
        }
        try decoder.product(shortlist.rows, of: mapped, into: &logits)
        if let additions { try decoder.product(additions.rows, of: mapped, into: &others) }
        for row in rows.indices {
          let place = row - rows.lowerBound
          var (value, token) = Self.best(logits, row: place, tokens: shortlist.tokens)
          if let additions {
            let other = Self.best(others, row: place, tokens: additions.tokens)
            if other.value > value { (value, token) = other }
          }
          result.append(token)
        }
      }
    }
    return result
  }

  private static func best(_ logits: [Float], row: Int, tokens: [TokenID]) -> (value: Float, token: TokenID) {
    logits.withUnsafeBufferPointer { logits in
      let part = UnsafeBufferPointer(rebasing: logits[row * tokens.count..<(row + 1) * tokens.count])
      let index = Logits.argmax(part)
      return (part[index], tokens[index])
    }
  }

  /// The best tokens of the whole vocabulary by the shared head; `states` is (count, hiddenSize).
  static func bestTokens(_ decoder: any DecoderModel, of states: [Float], count: Int) throws -> [TokenID] {
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
        Logits.argmax(UnsafeBufferPointer(rebasing: logits[$0 * vocabulary..<($0 + 1) * vocabulary]))
      }
    }
  }
}
