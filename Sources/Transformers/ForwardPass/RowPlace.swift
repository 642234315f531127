/// A row as the forward pass uses it: where its sequence's cache lies and its place there.
struct RowPlace {
  var memory: UnsafeMutableRawPointer
  var layout: KeyValueCache.Layout
  var position: Int
  /// Tokens that the sequence may have in all.
  var room = 0
  /// Keys and values of the encoder's output, and its length.
  var sourceMemory: UnsafeMutableRawPointer?
  var sourceLayout = KeyValueCache.Layout()
  var sourceCount = 0

  /// The source in a form that asks the same questions.
  var source: RowPlace? {
    sourceMemory.map { RowPlace(memory: $0, layout: sourceLayout, position: sourceCount) }
  }

  func keys(layer: Int, head: Int) -> UnsafeMutableRawPointer {
    memory + layer * layout.layerBytes + head * layout.headBytes
  }

  func values(layer: Int, head: Int) -> UnsafeMutableRawPointer {
    memory + layer * layout.layerBytes + (layout.headCount + head) * layout.headBytes
  }
}
