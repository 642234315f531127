import FileFormats
import TensorKernels

/// The tensor table of a safetensors file, every count, type and offset checked.
///
/// Layout: the header's length in 8 bytes, little-endian; the header, a JSON object of the tensors' types, shapes and
/// byte ranges; the tensors, in the order of their ranges and without gaps.
struct SafetensorsFile {
  /// By the names that the file uses.
  let tensors: [String: MappedTensor]

  /// The format's limit on its header, in bytes.
  private static let headerLimit = 100_000_000
  private static let tensorLimit = 1 << 16
  private static let dimensionLimit = 8

  /// - Parameter ignoring: names of tensors that nobody reads and whose type need not be known.
  init(_ file: MappedFile, ignoring: (String) -> Bool) throws(CheckpointError) {
    try file.refusePointer()
    var cursor = ByteCursor(file)
    let length = try cursor.readCount(bytesEach: 1, "header length")
    guard (2...SafetensorsFile.headerLimit).contains(length) else {
      throw .damaged(
        file.path, "header length", expected: "2 to \(SafetensorsFile.headerLimit)", found: "\(length)")
    }
    let start = try cursor.skip(length, "header")
    guard file.bytes[start] == UInt8(ascii: "{") else {
      throw .damaged(file.path, "header", expected: "a JSON object", found: "something else")
    }
    let header = try JSONStructure.decode(
      Header.self, from: UnsafeRawBufferPointer(rebasing: file.bytes[start..<start + length]),
      file: file.path,
      field: "header")
    guard header.entries.count <= SafetensorsFile.tensorLimit else {
      throw .damaged(
        file.path, "header", expected: "at most \(SafetensorsFile.tensorLimit) tensors",
        found: "\(header.entries.count)")
    }

    let dataStart = cursor.offset
    let dataCount = cursor.remaining
    var tensors: [String: MappedTensor] = [:]
    // Where the next tensor must begin. Sorting by the end as well keeps empty tensors before the one they touch.
    var expectedStart: UInt64 = 0
    for (name, entry) in header.sortedEntries() {
      let field = "tensor \(CheckpointError.printable(name))"
      guard entry.data_offsets.count == 2, entry.data_offsets[0] <= entry.data_offsets[1],
        entry.data_offsets[1] <= UInt64(dataCount)
      else {
        throw .damaged(
          file.path, "\(field): data_offsets", expected: "a begin and an end within \(dataCount) bytes",
          found: "\(entry.data_offsets.prefix(4))")
      }
      let (begin, end) = (entry.data_offsets[0], entry.data_offsets[1])
      guard begin == expectedStart else {
        throw .damaged(
          file.path, "\(field): data_offsets",
          expected: "to begin where the tensor before ends, at \(expectedStart)",
          found: "\(begin)")
      }
      expectedStart = end
      if ignoring(name) { continue }
      let tensor = try SafetensorsFile.tensor(
        named: name, entry, in: file, offset: dataStart + Int(begin), count: Int(end - begin))
      tensors[name] = tensor
    }
    guard expectedStart == UInt64(dataCount) else {
      throw .damaged(
        file.path, "tensor data", expected: "\(expectedStart) bytes, as the header states",
        found: "\(dataCount)")
    }
    self.tensors = tensors
  }

  private static func tensor(
    named name: String, _ entry: Entry, in file: MappedFile, offset: Int, count: Int
  ) throws(CheckpointError) -> MappedTensor {
    let field = "tensor \(CheckpointError.printable(name))"
    let format: BlockFormat
    switch entry.dtype {
    case "F32": format = .f32
    case "F16": format = .f16
    case "BF16": format = .bf16
    default:
      throw .unsupported(
        file.path, "\(field): dtype", expected: "F32, F16 or BF16",
        found: CheckpointError.printable(entry.dtype))
    }
    let shape = entry.shape.compactMap { Int(exactly: $0) }
    guard shape.count == entry.shape.count, shape.count <= dimensionLimit,
      let byteCount = format.byteCount(ofShape: shape), byteCount == count
    else {
      let text = entry.shape.prefix(dimensionLimit + 1).map(String.init).joined(separator: " × ")
      throw .damaged(
        file.path, "\(field): shape",
        expected: "one that takes the \(count) bytes of data_offsets as \(format.name)",
        found: text.isEmpty ? "a single number" : text)
    }
    return MappedTensor(
      name: name, shape: shape, format: format, byteCount: count, file: file, offset: offset)
  }
}

extension SafetensorsFile {
  fileprivate struct Entry: Decodable {
    var dtype: String
    var shape: [UInt64]
    // The spelling of the format.
    var data_offsets: [UInt64]
  }

  fileprivate struct Header: Decodable {
    var entries: [String: Entry] = [:]

    struct Name: CodingKey {
      var stringValue: String
      var intValue: Int? { nil }
      init?(intValue: Int) { nil }
      init(stringValue: String) { self.stringValue = stringValue }
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Name.self)
      for key in container.allKeys {
        if key.stringValue == "__metadata__" {
          _ = try container.decode([String: String].self, forKey: key)
        } else {
          entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
        }
      }
    }

    func sortedEntries() -> [(String, Entry)] {
      // By name first, so that the order of equal offsets does not change from run to run.
      entries.map { ($0.key, $0.value) }.sorted { $0.0 < $1.0 }.sorted { first, second in
        first.1.data_offsets.lexicographicallyPrecedes(second.1.data_offsets)
      }
    }
  }
}
