import FileFormats
import TensorKernels

/// The metadata and tensor table of a GGUF file, versions 2 and 3, every count, type and offset checked.
///
/// Layout: "GGUF", version, number of tensors, number of metadata pairs, the pairs, the tensor table, and, from
/// the next multiple of `general.alignment`, the tensors. Integers are little-endian.
struct GGUFFile {
  let metadata: [String: MetadataValue]
  let tensors: [String: MappedTensor]

  /// More than any real file has; what exceeds them is damage, and should not cost memory before it is found.
  private static let tensorLimit = 1 << 16
  private static let pairLimit = 1 << 16
  private static let keyLimit = 65_535
  /// The format's limit on the length of a tensor's name, in bytes.
  private static let tensorNameLimit = 64
  private static let dimensionLimit = 4

  init(_ file: MappedFile) throws(CheckpointError) {
    try file.refusePointer()
    var cursor = ByteCursor(file)
    let magic = try cursor.skip(4, "magic")
    guard file.bytes[magic..<magic + 4].elementsEqual("GGUF".utf8) else {
      throw .damaged(
        file.path, "magic", expected: "GGUF", found: GGUFFile.describe(file.bytes[magic..<magic + 4]))
    }
    let version = try cursor.read(UInt32.self, "version")
    guard version == 2 || version == 3 else {
      let found = version & 0xFFFF == 0 ? "a big-endian file" : "\(version)"
      throw .unsupported(file.path, "version", expected: "2 or 3", found: found)
    }
    // The least that an entry can take: an empty name, one dimension, type and offset.
    let tensorCount = try GGUFFile.readCount(
      &cursor, bytesEach: 32, limit: GGUFFile.tensorLimit, "tensor count")
    // An empty key, a type, one byte.
    let pairCount = try GGUFFile.readCount(
      &cursor, bytesEach: 13, limit: GGUFFile.pairLimit, "metadata count")

    var metadata: [String: MetadataValue] = [:]
    for index in 0..<pairCount {
      let key = try cursor.readString(limit: GGUFFile.keyLimit, "name of metadata key \(index)")
      let value = try GGUFFile.readValue(&cursor, key: key)
      guard metadata.updateValue(value, forKey: key) == nil else {
        throw .damaged(
          file.path, "metadata key \(CheckpointError.printable(key))", expected: "one value", found: "two")
      }
    }
    self.metadata = metadata
    self.tensors = try GGUFFile.readTensors(&cursor, count: tensorCount, metadata: metadata)
  }

  private static func readCount(
    _ cursor: inout ByteCursor, bytesEach: Int, limit: Int, _ field: String
  ) throws(CheckpointError) -> Int {
    let count = try cursor.readCount(bytesEach: bytesEach, field)
    guard count <= limit else {
      throw .damaged(cursor.file.path, field, expected: "at most \(limit)", found: "\(count)")
    }
    return count
  }

  private static func describe(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { byte in
      (0x20..<0x7F).contains(byte)
        ? String(UnicodeScalar(byte))
        : "\\x" + String(byte >> 4, radix: 16)
          + String(byte & 15, radix: 16)
    }.joined()
  }
}

// MARK: - Metadata

extension GGUFFile {
  /// The type numbers of metadata values.
  private enum ValueType: UInt32 {
    case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64
  }

  private static func readType(_ cursor: inout ByteCursor, _ field: String) throws(CheckpointError)
    -> ValueType
  {
    let stored = try cursor.read(UInt32.self, field)
    guard let type = ValueType(rawValue: stored) else {
      throw .damaged(cursor.file.path, field, expected: "a value type from 0 to 12", found: "\(stored)")
    }
    return type
  }

  private static func readValue(
    _ cursor: inout ByteCursor, key: String
  ) throws(CheckpointError) -> MetadataValue {
    let field = "metadata key \(CheckpointError.printable(key))"
    switch try readType(&cursor, field) {
    case .uint8: return .signed(Int64(try cursor.read(UInt8.self, field)))
    case .int8: return .signed(Int64(try cursor.read(Int8.self, field)))
    case .uint16: return .signed(Int64(try cursor.read(UInt16.self, field)))
    case .int16: return .signed(Int64(try cursor.read(Int16.self, field)))
    case .uint32: return .signed(Int64(try cursor.read(UInt32.self, field)))
    case .int32: return .signed(Int64(try cursor.read(Int32.self, field)))
    case .uint64: return .unsigned(try cursor.read(UInt64.self, field))
    case .int64: return .signed(try cursor.read(Int64.self, field))
    case .float32: return .float(Double(Float(bitPattern: try cursor.read(UInt32.self, field))))
    case .float64: return .float(Double(bitPattern: try cursor.read(UInt64.self, field)))
    case .bool:
      let stored = try cursor.read(UInt8.self, field)
      guard stored <= 1 else {
        throw .damaged(cursor.file.path, field, expected: "a boolean, 0 or 1", found: "\(stored)")
      }
      return .bool(stored == 1)
    case .string: return .string(try cursor.readString(field))
    case .array: return try readArray(&cursor, field)
    }
  }

  private static func readArray(
    _ cursor: inout ByteCursor, _ field: String
  ) throws(CheckpointError) -> MetadataValue {
    let element: MappedNumberArray.Element
    switch try readType(&cursor, field) {
    case .uint8: element = .uint8
    case .int8: element = .int8
    case .uint16: element = .uint16
    case .int16: element = .int16
    case .uint32: element = .uint32
    case .int32: element = .int32
    case .uint64: element = .uint64
    case .int64: element = .int64
    case .float32: element = .float32
    case .float64: element = .float64
    case .bool: element = .bool
    case .string:
      let count = try cursor.readCount(bytesEach: 8, field)
      let offsets = try cursor.skipStrings(count, field)
      return .strings(MappedStringArray(file: cursor.file, offsets: offsets))
    case .array:
      // No key of a supported model nests arrays, and following them would let a file choose our depth.
      throw .unsupported(
        cursor.file.path, field, expected: "an array of numbers, booleans or strings",
        found: "an array of arrays")
    }
    let count = try cursor.readCount(bytesEach: element.byteCount, field)
    let offset = try cursor.skip(count * element.byteCount, field)
    if element == .bool, let bad = cursor.file.bytes[offset..<offset + count].first(where: { $0 > 1 }) {
      throw .damaged(cursor.file.path, field, expected: "booleans, 0 or 1", found: "\(bad)")
    }
    return .numbers(MappedNumberArray(file: cursor.file, offset: offset, element: element, count: count))
  }
}

// MARK: - Tensors

extension GGUFFile {
  /// A row of the tensor table.
  private struct Entry {
    var name: String
    var shape: [Int]
    var format: BlockFormat
    var byteCount: Int
    /// From the start of the tensor data.
    var offset: UInt64
  }

  /// Type numbers that other programs know and this one does not, for messages.
  private static let foreignTypes: [UInt32: String] = [
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
    22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 40: "NVFP4",
  ]

  private static func readTensors(
    _ cursor: inout ByteCursor, count: Int, metadata: [String: MetadataValue]
  ) throws(CheckpointError) -> [String: MappedTensor] {
    let file = cursor.file
    var entries: [Entry] = []
    for index in 0..<count {
      entries.append(try readEntry(&cursor, index: index))
    }
    let alignment = try alignment(metadata, file)
    let tableEnd = cursor.offset
    let padding = (alignment - tableEnd % alignment) % alignment
    let (dataStart, overflow) = tableEnd.addingReportingOverflow(padding)
    // A file without tensors may end at its table.
    guard !overflow, dataStart <= file.bytes.count || count == 0 else {
      throw .damaged(
        file.path, "tensor data", expected: "padding up to a multiple of \(alignment) after byte \(tableEnd)",
        found: "the end of the file at byte \(file.bytes.count)")
    }

    var tensors: [String: MappedTensor] = [:]
    for entry in entries {
      let field = "tensor \(CheckpointError.printable(entry.name))"
      guard entry.offset % UInt64(alignment) == 0 else {
        throw .damaged(
          file.path, "\(field): offset", expected: "a multiple of \(alignment)", found: "\(entry.offset)")
      }
      let available = file.bytes.count - dataStart
      guard let offset = Int(exactly: entry.offset), offset <= available,
        entry.byteCount <= available - offset
      else {
        throw .damaged(
          file.path, field,
          expected: "\(entry.byteCount) bytes from byte \(entry.offset) of the tensor data",
          found: "\(available) bytes of tensor data in the file")
      }
      let tensor = MappedTensor(
        name: entry.name, shape: entry.shape, format: entry.format, byteCount: entry.byteCount, file: file,
        offset: dataStart + offset)
      guard tensors.updateValue(tensor, forKey: entry.name) == nil else {
        throw .damaged(file.path, field, expected: "one tensor of that name", found: "two")
      }
    }
    try MappedTensor.checkOverlap(of: tensors.values, in: file)
    return tensors
  }

  private static func readEntry(
    _ cursor: inout ByteCursor, index: Int
  ) throws(CheckpointError) -> Entry {
    let path = cursor.file.path
    let name = try cursor.readString(limit: tensorNameLimit, "name of tensor \(index)")
    let field = "tensor \(CheckpointError.printable(name))"
    let dimensionCount = try cursor.read(UInt32.self, "\(field): number of dimensions")
    guard (1...UInt32(dimensionLimit)).contains(dimensionCount) else {
      throw .damaged(
        path, "\(field): number of dimensions", expected: "1 to \(dimensionLimit)", found: "\(dimensionCount)"
      )
    }
    var dimensions: [UInt64] = []
    for axis in 0..<dimensionCount {
      dimensions.append(try cursor.read(UInt64.self, "\(field): dimension \(axis)"))
    }
    let type = try cursor.read(UInt32.self, "\(field): type")
    guard let format = BlockFormat(rawValue: type) else {
      throw .unsupported(
        path, "\(field): type",
        expected: "one of \(BlockFormat.allCases.map(\.name).joined(separator: ", "))",
        found: foreignTypes[type] ?? "number \(type)")
    }
    // The file lists the innermost dimension first.
    let shape = dimensions.reversed().compactMap { Int(exactly: $0) }
    guard shape.count == dimensions.count, !shape.contains(0),
      let byteCount = format.byteCount(ofShape: shape)
    else {
      throw .damaged(
        path, "\(field): dimensions",
        expected: "rows of whole blocks of \(format.blockLength) weights, and a size that can be",
        found: dimensions.reversed().map(String.init).joined(separator: " × "))
    }
    let offset = try cursor.read(UInt64.self, "\(field): offset")
    return Entry(name: name, shape: shape, format: format, byteCount: byteCount, offset: offset)
  }

  private static func alignment(
    _ metadata: [String: MetadataValue], _ file: MappedFile
  ) throws(CheckpointError) -> Int {
    guard let value = metadata["general.alignment"] else { return 32 }
    guard let alignment = value.int, alignment >= 8, alignment <= 1 << 20, alignment & (alignment - 1) == 0
    else {
      throw .damaged(
        file.path, "metadata key general.alignment", expected: "a power of two from 8 to \(1 << 20)",
        found: value.kindName)
    }
    return alignment
  }
}
