/// Keys and values of the first positions as a row of bytes, for files.
extension KeyValueCache {
  /// What has to be equal for keys and values of one cache to be those of another of the same model.
  package struct Shape: Equatable, Sendable {
    package var layerCount: Int
    package var headCount: Int
    package var headSize: Int
    package var storage: Storage

    /// Bytes of the first positions: keys in whole blocks of 16, values as many as there are.
    package func byteCount(positions: Int) -> Int {
      let row = storage.rowBytes(headSize)
      return layerCount * headCount * ((positions + 15) / 16 * 16 + positions) * row
    }
  }

  /// `nil` for a cache that holds no numbers.
  package var shape: Shape? {
    guard memory != nil else { return nil }
    return Shape(
      layerCount: filled.count, headCount: layout.headCount, headSize: layout.headSize,
      storage: layout.storage)
  }

  /// Hands over keys and values of the first positions: for each layer the keys of each head, then the values of each
  /// head. What a block of keys holds of later positions is zero there, so that equal prompts are equal bytes.
  ///
  /// - Parameter count: At most as many as every layer has.
  package func withBeginning<Failure: Error>(
    _ count: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    guard count > 0, count <= filled.min() ?? 0 else { return }
    let row = layout.rowBytes
    let whole = count / 16 * 16 * row
    for layer in filled.indices {
      for head in 0..<layout.headCount {
        guard let keys = keys(layer: layer, head: head) else { return }
        try body(UnsafeRawBufferPointer(start: keys, count: whole))
        guard count % 16 != 0 else { continue }
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 * row, alignment: 16)
        defer { block.deallocate() }
        copyKeys(count % 16, of: keys + whole, to: block)
        try body(UnsafeRawBufferPointer(block))
      }
      for head in 0..<layout.headCount {
        guard let values = values(layer: layer, head: head) else { return }
        try body(UnsafeRawBufferPointer(start: values, count: count * row))
      }
    }
  }

  /// The first keys of a block, and zeros in the places of the others.
  private func copyKeys(
    _ count: Int, of block: UnsafeMutableRawPointer, to target: UnsafeMutableRawBufferPointer
  ) {
    guard let start = target.baseAddress else { return }
    start.initializeMemory(as: UInt8.self, repeating: 0, count: target.count)
    let size = layout.storage.bits / 8
    for d in 0..<layout.headSize {
      (start + 16 * d * size).copyMemory(from: block + 16 * d * size, byteCount: count * size)
    }
    guard layout.storage == .bytes else { return }
    let scales = 16 * layout.headSize
    (start + scales).copyMemory(from: block + scales, byteCount: count * MemoryLayout<Float>.size)
  }

  /// Takes keys and values of the first positions over, in the order of ``withBeginning(_:_:)``.
  ///
  /// - Parameters:
  ///   - count: At most ``capacity``.
  ///   - body: Writes the bytes that come next.
  /// - Returns: Whether all of them are finite numbers; if not, the cache is to be thrown away.
  package func fillBeginning<Failure: Error>(
    _ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) -> Bool {
    guard count > 0, count <= capacity else { return false }
    let row = layout.rowBytes
    for layer in filled.indices {
      for head in 0..<layout.headCount {
        guard let keys = keys(layer: layer, head: head) else { return false }
        let part = UnsafeMutableRawBufferPointer(start: keys, count: (count + 15) / 16 * 16 * row)
        try body(part)
        guard isFinite(UnsafeRawBufferPointer(part), isKeys: true) else { return false }
      }
      for head in 0..<layout.headCount {
        guard let values = values(layer: layer, head: head) else { return false }
        let part = UnsafeMutableRawBufferPointer(start: values, count: count * row)
        try body(part)
        guard isFinite(UnsafeRawBufferPointer(part), isKeys: false) else { return false }
      }
    }
    filled = filled.map { _ in count }
    return true
  }

  private func isFinite(_ part: UnsafeRawBufferPointer, isKeys: Bool) -> Bool {
    switch layout.storage {
    case .half:
      var isFound: UInt16 = 0
      for bits in part.assumingMemoryBound(to: UInt16.self) {
        // An exponent of ones is an infinity or no number: with one more it has a sixth bit.
        isFound |= (bits & 0x7C00) &+ 0x0400
      }
      return isFound & 0x8000 == 0
    case .single:
      return part.assumingMemoryBound(to: Float.self).allSatisfy(\.isFinite)
    case .bytes:
      let size = MemoryLayout<Float>.size
      // The scales alone can be anything but finite.
      let (length, count) = isKeys ? (16 * layout.rowBytes, 16) : (layout.rowBytes, 1)
      return stride(from: 0, to: part.count, by: length).allSatisfy { start in
        (0..<count).allSatisfy { index in
          part.loadUnaligned(fromByteOffset: start + length - (count - index) * size, as: Float.self).isFinite
        }
      }
    }
  }
}
