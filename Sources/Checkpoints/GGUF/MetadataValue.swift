import FileFormats

/// The value of a GGUF metadata key.
public enum MetadataValue: Sendable {
  /// Any signed integer of the file, and any unsigned one up to 32 bits.
  case signed(Int64)
  /// A 64-bit unsigned integer.
  case unsigned(UInt64)
  /// A number of 32 or 64 bits.
  case float(Double)
  /// True or false.
  case bool(Bool)
  /// A text.
  case string(String)
  /// Texts that stay in the file.
  case strings(MappedStringArray)
  /// Numbers or booleans that stay in the file.
  case numbers(MappedNumberArray)

  /// The value as an integer; nil when it is none or does not fit.
  public var int: Int? {
    switch self {
    case .signed(let value): Int(exactly: value)
    case .unsigned(let value): Int(exactly: value)
    default: nil
    }
  }

  /// The value as a floating-point number; nil when the file does not store it as one.
  public var double: Double? {
    if case .float(let value) = self { value } else { nil }
  }

  /// The value as a 32-bit float, rounded if it was stored with 64 bits.
  public var float: Float? { double.map { Float($0) } }

  /// The value as true or false; nil when it is neither.
  public var bool: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }

  /// The value as a text; nil when it is none.
  public var string: String? {
    if case .string(let value) = self { value } else { nil }
  }

  /// The value as an array of strings that are still in the file.
  public var mappedStrings: MappedStringArray? {
    if case .strings(let value) = self { value } else { nil }
  }

  /// The value as an array of strings, copied: linear in their bytes.
  public var strings: [String]? { mappedStrings?.makeStrings() }

  /// The value as an array of 32-bit integers, copied; nil unless all fit.
  public var int32s: [Int32]? {
    if case .numbers(let value) = self { value.makeInt32s() } else { nil }
  }

  /// The value as an array of floats, copied.
  public var floats: [Float]? {
    if case .numbers(let value) = self { value.makeFloats() } else { nil }
  }

  /// What kind of value it is, for messages.
  var kindName: String {
    switch self {
    case .signed(let value): "the integer \(value)"
    case .unsigned(let value): "the integer \(value)"
    case .float(let value): "the number \(value)"
    case .bool(let value): "\(value)"
    case .string(let value): "\"\(CheckpointError.printable(value))\""
    case .strings(let value): "an array of \(value.count) strings"
    case .numbers(let value): "an array of \(value.count) numbers"
    }
  }
}
