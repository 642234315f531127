import DecoderModels

/// Normalised hidden states of the same tokens after several layers.
struct StateSample {
  let size: Int
  let limit: Int
  private(set) var count = 0
  /// By layer: (count, size)
  private var values: [Int: [Float]]

  init(layers: [Int], size: Int, limit: Int) {
    self.size = size
    self.limit = limit
    values = Dictionary(uniqueKeysWithValues: layers.map { ($0, []) })
  }

  /// Appends rows of a batch, (rows of the batch, size) by layer, while there is room.
  mutating func append(_ batch: [Int: [Float]], rows: Range<Int>) {
    let rows = rows.prefix(max(limit - count, 0))
    guard let first = rows.first, let last = rows.last else { return }
    for (layer, states) in batch { values[layer, default: []] += states[first * size..<(last + 1) * size] }
    count += rows.count
  }

  func state(_ index: Int, layer: Int) -> [Float] {
    Array((values[layer] ?? [])[index * size..<(index + 1) * size])
  }

  /// The best token of every state by the shared head, after a map if there is one.
  func bestTokens(
    _ decoder: any DecoderModel, layer: Int, map: ExitHeads.LayerMap?
  ) throws(DecoderError) -> [TokenID] {
    let states = HiddenStates(hiddenSize: size, capacity: 64)
    let vocabulary = decoder.configuration.vocabularySize
    var logits: [Float] = []
    var best: [TokenID] = []
    for start in stride(from: 0, to: count, by: states.capacity) {
      let rows = start..<min(start + states.capacity, count)
      for row in rows {
        let state = state(row, layer: layer)
        states[row - start] = map?.apply(state) ?? state
      }
      states.count = rows.count
      try decoder.logits(of: states, rows: 0..<rows.count, into: &logits)
      logits.withUnsafeBufferPointer { logits in
        for row in 0..<rows.count {
          let start = row * vocabulary
          best.append(
            Logits.argmax(UnsafeBufferPointer(rebasing: logits[start..<start + vocabulary])))
        }
      }
    }
    return best
  }
}
