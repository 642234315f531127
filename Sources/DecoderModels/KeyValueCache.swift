/// Keys and values of one sequence, for every layer.
///
/// Layers may be filled to different lengths: after an early exit the deeper layers lag behind until the skipped
/// tokens are propagated or completed.
public final class KeyValueCache {
  /// Tokens the cache has room for.
  public let capacity: Int
  /// Tokens present, by layer.
  public internal(set) var filled: [Int]
  var storage: UnsafeMutableRawPointer?

  package init(layerCount: Int, capacity: Int) {
    self.capacity = capacity
    self.filled = Array(repeating: 0, count: layerCount)
  }

  /// Forgets every token from position `count` on, in all layers. The next token is then written at `count`.
  ///
  /// - Precondition: `count >= 0`.
  public func crop(to count: Int) {
    for layer in filled.indices { filled[layer] = min(filled[layer], max(count, 0)) }
  }
}
