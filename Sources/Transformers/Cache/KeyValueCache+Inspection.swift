extension KeyValueCache {
  /// The keys and values of one token in one layer, as they are stored: every head's key, then every head's value.
  ///
  /// Two caches that agree here give the same logits. Nothing for a place that is not filled.
  package func storedBytes(layer: Int, position: Int) -> [UInt8] {
    guard filled.indices.contains(layer), (0..<filled[layer]).contains(position) else { return [] }
    let size = layout.storage.bits / 8
    let isScaled = layout.storage == .bytes
    var bytes: [UInt8] = []
    for head in 0..<layout.headCount {
      guard let keys = keys(layer: layer, head: head) else { return [] }
      let block = keys + position / 16 * 16 * layout.rowBytes
      for d in 0..<layout.headSize {
        bytes += UnsafeRawBufferPointer(start: block + (16 * d + position % 16) * size, count: size)
      }
      if isScaled {
        bytes += UnsafeRawBufferPointer(start: block + 16 * layout.headSize + position % 16 * 4, count: 4)
      }
    }
    for head in 0..<layout.headCount {
      guard let values = values(layer: layer, head: head) else { return [] }
      bytes += UnsafeRawBufferPointer(
        start: values + position * layout.rowBytes, count: layout.rowBytes)
    }
    return bytes
  }
}
