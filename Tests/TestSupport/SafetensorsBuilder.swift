/// Builds safetensors files, sound ones and, by overriding header or length, hostile ones.
public struct SafetensorsBuilder: Sendable {
  public struct Tensor: Sendable {
    public var name: String
    public var dtype: String
    public var shape: [UInt64]
    public var bytes: [UInt8]
    /// Overrides the range that the layout gives.
    public var offsets: [UInt64]?

    public init(name: String, dtype: String, shape: [UInt64], bytes: [UInt8], offsets: [UInt64]? = nil) {
      self.name = name
      self.dtype = dtype
      self.shape = shape
      self.bytes = bytes
      self.offsets = offsets
    }
  }

  public var tensors: [Tensor] = []
  /// Replaces the whole header.
  public var header: String?
  /// Overrides the header's length field.
  public var headerLength: UInt64?

  public init() {}

  public mutating func editTensor(_ name: String, _ edit: (inout Tensor) -> Void) {
    for index in tensors.indices where tensors[index].name == name { edit(&tensors[index]) }
  }

  public func build() -> [UInt8] {
    var text = header ?? makeHeader()
    // Writers pad with blanks so that the data are aligned.
    while text.utf8.count % 8 != 0 { text += " " }
    var output: [UInt8] = []
    withUnsafeBytes(of: (headerLength ?? UInt64(text.utf8.count)).littleEndian) { output += $0 }
    output += Array(text.utf8)
    for tensor in tensors { output += tensor.bytes }
    return output
  }

  private func makeHeader() -> String {
    var position: UInt64 = 0
    let entries = tensors.map { tensor -> String in
      let range = tensor.offsets ?? [position, position + UInt64(tensor.bytes.count)]
      position += UInt64(tensor.bytes.count)
      return
        "\"\(tensor.name)\":{\"dtype\":\"\(tensor.dtype)\",\"shape\":\(tensor.shape),\"data_offsets\":\(range)}"
    }
    return "{" + (["\"__metadata__\":{\"format\":\"pt\"}"] + entries).joined(separator: ",") + "}"
  }
}
