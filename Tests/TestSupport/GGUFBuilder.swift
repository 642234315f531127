/// Builds GGUF files byte by byte, sound ones and, by overriding what would be derived, hostile ones.
public struct GGUFBuilder: Sendable {
  /// A metadata value; the cases are the format's types that models use, and raw bytes for anything else.
  public enum Value: Sendable {
    case uint8(UInt8)
    case uint32(UInt32)
    case int32(Int32)
    case uint64(UInt64)
    case float32(Float)
    case float64(Double)
    case bool(Bool)
    case string(String)
    case strings([String])
    case int32s([Int32])
    case float32s([Float])
    case bools([Bool])
    /// Any type number, followed by any bytes.
    case raw(type: UInt32, [UInt8])
  }

  public struct Tensor: Sendable {
    public var name: String
    /// In the file's order: innermost dimension first.
    public var dimensions: [UInt64]
    public var type: UInt32
    public var bytes: [UInt8]
    /// Overrides the offset that the layout gives.
    public var offset: UInt64?

    public init(name: String, dimensions: [UInt64], type: UInt32, bytes: [UInt8], offset: UInt64? = nil) {
      self.name = name
      self.dimensions = dimensions
      self.type = type
      self.bytes = bytes
      self.offset = offset
    }
  }

  public var magic: [UInt8] = Array("GGUF".utf8)
  public var version: UInt32 = 3
  public var metadata: [(key: String, value: Value)] = []
  public var tensors: [Tensor] = []
  /// Overrides of the header's counts.
  public var tensorCount: UInt64?
  public var metadataCount: UInt64?
  /// The alignment of the layout; state it as `general.alignment` too where it is not 32.
  public var alignment = 32

  public init() {}

  /// Replaces the value of a key, or adds it.
  public mutating func set(_ key: String, _ value: Value) {
    remove(key)
    metadata.append((key, value))
  }

  public mutating func remove(_ key: String) {
    metadata.removeAll { $0.key == key }
  }

  public mutating func editTensor(_ name: String, _ edit: (inout Tensor) -> Void) {
    for index in tensors.indices where tensors[index].name == name { edit(&tensors[index]) }
  }

  public func build() -> [UInt8] {
    var output = magic
    append(version, to: &output)
    append(tensorCount ?? UInt64(tensors.count), to: &output)
    append(metadataCount ?? UInt64(metadata.count), to: &output)
    for (key, value) in metadata {
      append(key, to: &output)
      append(value, to: &output)
    }
    var position = 0
    for tensor in tensors {
      append(tensor.name, to: &output)
      append(UInt32(tensor.dimensions.count), to: &output)
      for dimension in tensor.dimensions { append(dimension, to: &output) }
      append(tensor.type, to: &output)
      append(tensor.offset ?? UInt64(position), to: &output)
      position = aligned(position + tensor.bytes.count)
    }
    output += Array(repeating: 0, count: aligned(output.count) - output.count)
    for tensor in tensors {
      output += tensor.bytes
      output += Array(repeating: 0, count: aligned(tensor.bytes.count) - tensor.bytes.count)
    }
    return output
  }

  private func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

  private func append(_ value: some FixedWidthInteger, to output: inout [UInt8]) {
    withUnsafeBytes(of: value.littleEndian) { output += $0 }
  }

  private func append(_ text: String, to output: inout [UInt8]) {
    append(UInt64(text.utf8.count), to: &output)
    output += Array(text.utf8)
  }

  private func append(_ value: Value, to output: inout [UInt8]) {
    func type(_ number: UInt32) { append(number, to: &output) }
    func array(_ number: UInt32, _ count: Int) {
      type(9)
      type(number)
      append(UInt64(count), to: &output)
    }
    switch value {
    case .uint8(let value):
      type(0)
      append(value, to: &output)
    case .uint32(let value):
      type(4)
      append(value, to: &output)
    case .int32(let value):
      type(5)
      append(value, to: &output)
    case .uint64(let value):
      type(10)
      append(value, to: &output)
    case .float32(let value):
      type(6)
      append(value.bitPattern, to: &output)
    case .float64(let value):
      type(12)
      append(value.bitPattern, to: &output)
    case .bool(let value):
      type(7)
      output.append(value ? 1 : 0)
    case .string(let value):
      type(8)
      append(value, to: &output)
    case .strings(let values):
      array(8, values.count)
      for value in values { append(value, to: &output) }
    case .int32s(let values):
      array(5, values.count)
      for value in values { append(value, to: &output) }
    case .float32s(let values):
      array(6, values.count)
      for value in values { append(value.bitPattern, to: &output) }
    case .bools(let values):
      array(7, values.count)
      output += values.map { $0 ? 1 : 0 }
    case .raw(let number, let bytes):
      type(number)
      output += bytes
    }
  }
}
