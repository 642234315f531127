import CTensorKernels
import Foundation

/// Keys and values of one sequence, for every layer.
///
/// Layers may be filled to different lengths: after an early exit the deeper layers lag behind until the skipped
/// tokens are propagated or completed.
public final class KeyValueCache {
  /// Tokens the cache has room for.
  public let capacity: Int
  /// Tokens present, by layer.
  public package(set) var filled: [Int]

  /// Keys and values of the encoder's output, for each layer of the decoder that attends to it; immutable once made, so
  /// that several sequences of one source share it. nil where there is no encoder, or before it has run.
  public package(set) var source: KeyValueCache?

  /// Keys of each layer, then its values. Keys of a head: (positions / 16, headSize, 16), so that a score needs no
  /// sum across lanes; values of a head: (positions, headSize). Positions are rounded up to 16. With bytes each block
  /// of keys ends with 16 scales, and each row of values with its scale.
  let memory: UnsafeMutableRawPointer?
  let layout: Layout

  /// How a number is held.
  package enum Storage: Sendable {
    case half, single
    /// 8 bits, and a scale in single precision for the numbers of a head at one position.
    case bytes

    /// Bits of a number, scales left out.
    package var bits: Int {
      switch self {
      case .half: 16
      case .single: 32
      case .bytes: 8
      }
    }

    package func rowBytes(_ headSize: Int) -> Int {
      headSize * bits / 8 + (self == .bytes ? MemoryLayout<Float>.size : 0)
    }

    /// What the kernels call it.
    var kernelNumber: Int32 {
      switch self {
      case .half: Int32(EK_HALF)
      case .single: Int32(EK_FLOAT)
      case .bytes: Int32(EK_BYTES)
      }
    }
  }

  struct Layout {
    var headCount = 0
    var headSize = 0
    var storage = Storage.half
    var paddedCapacity = 0

    /// Bytes of one position's keys, or values, of a head.
    var rowBytes: Int { storage.rowBytes(headSize) }
    var headBytes: Int { paddedCapacity * rowBytes }
    var layerBytes: Int { 2 * headCount * headBytes }
  }

  /// Bytes of memory for keys and values when all positions are in use.
  public var byteCount: Int { layout.layerBytes * filled.count }

  /// A cache that holds no numbers, for models that keep none.
  package init(layerCount: Int, capacity: Int) {
    self.capacity = capacity
    self.filled = Array(repeating: 0, count: layerCount)
    self.memory = nil
    self.layout = Layout()
  }

  /// nil when the system has no memory for it. The memory is taken page by page as positions are written.
  init?(layerCount: Int, capacity: Int, headCount: Int, headSize: Int, storage: Storage) {
    let layout = Layout(
      headCount: headCount, headSize: headSize, storage: storage,
      paddedCapacity: (capacity + 15) / 16 * 16)
    guard let memory = calloc(layerCount, layout.layerBytes) else { return nil }
    self.capacity = capacity
    self.filled = Array(repeating: 0, count: layerCount)
    self.layout = layout
    self.memory = memory
  }

  deinit { free(memory) }

  func keys(layer: Int, head: Int) -> UnsafeMutableRawPointer? {
    memory.map { $0 + layer * layout.layerBytes + head * layout.headBytes }
  }

  func values(layer: Int, head: Int) -> UnsafeMutableRawPointer? {
    memory.map { $0 + layer * layout.layerBytes + (layout.headCount + head) * layout.headBytes }
  }

  /// Takes over the keys and values of some positions, and the source, of a cache of the same model.
  ///
  /// All positions before them must be the same already. Both caches have as much room.
  ///
  /// - Complexity: O(layers · heads · positions)
  package func copy(_ other: KeyValueCache, positions: Range<Int>) {
    source = other.source
    filled = other.filled.map { min($0, positions.upperBound) }
    guard let memory, let origin = other.memory, layout.paddedCapacity == other.layout.paddedCapacity else {
      return
    }
    let row = layout.rowBytes
    // Keys lie in blocks of 16 positions.
    let blocks = positions.lowerBound / 16 * 16 * row..<(positions.upperBound + 15) / 16 * 16 * row
    let rows = positions.lowerBound * row..<positions.upperBound * row
    for layer in filled.indices {
      for head in 0..<layout.headCount {
        let keys = layer * layout.layerBytes + head * layout.headBytes + blocks.lowerBound
        (memory + keys).copyMemory(from: origin + keys, byteCount: blocks.count)
        let values =
          layer * layout.layerBytes + (layout.headCount + head) * layout.headBytes + rows.lowerBound
        (memory + values).copyMemory(from: origin + values, byteCount: rows.count)
      }
    }
  }

  /// Takes over the keys and values of the first positions of a cache of the same model, whatever room either has.
  ///
  /// - Parameter count: The most positions to take over.
  /// - Returns: How many were: those alone that are filled in every layer of `other` and that this cache has room for.
  /// - Complexity: O(layers · heads · count)
  package func copyBeginning(of other: KeyValueCache, count: Int) -> Int {
    let count = min(count, capacity, other.filled.min() ?? 0)
    guard count > 0, let memory, let origin = other.memory, layout.headCount == other.layout.headCount,
      layout.headSize == other.layout.headSize, layout.storage == other.layout.storage
    else { return 0 }
    filled = filled.map { _ in count }
    let row = layout.rowBytes
    // Keys lie in blocks of 16 positions; what a block holds beyond `count` is written before it is read.
    let keyBytes = (count + 15) / 16 * 16 * row
    for layer in filled.indices {
      for head in 0..<layout.headCount {
        let target = memory + layer * layout.layerBytes + head * layout.headBytes
        let source = origin + layer * other.layout.layerBytes + head * other.layout.headBytes
        target.copyMemory(from: source, byteCount: keyBytes)
        (target + layout.headCount * layout.headBytes).copyMemory(
          from: source + layout.headCount * other.layout.headBytes, byteCount: count * row)
      }
    }
    return count
  }

  /// Forgets every token from position `count` on, in all layers. The next token is then written at `count`.
  public func crop(to count: Int) {
    for layer in filled.indices { filled[layer] = min(filled[layer], max(count, 0)) }
  }
}
