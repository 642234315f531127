import Foundation
import RiskControl

/// Reads the named arrays of a safetensors file, every size checked before anything is read.
package enum SafetensorsFile {
  private struct Entry: Decodable {
    var dtype: String
    var shape: [Int]
    var data_offsets: [Int]
  }

  /// Metadata and tensors share one object; the metadata's values are texts.
  private enum Item: Decodable {
    case tensor(Entry)
    case metadata

    init(from decoder: any Decoder) throws {
      if decoder.codingPath.last?.stringValue == "__metadata__" {
        self = .metadata
      } else {
        self = .tensor(try Entry(from: decoder))
      }
    }
  }

  private static let types: [String: ElementType] = [
    "F64": .float64, "F32": .float32, "F16": .float16, "BF16": .bfloat16, "I64": .int64, "I32": .int32,
    "I16": .int16, "I8": .int8, "U8": .uint8, "BOOL": .boolean,
  ]

  package static func read(_ source: ByteSource) throws(RiskControlError) -> [String: NumericArray] {
    let name = source.name
    let lengthBytes = [UInt8](try source.read(8))
    guard lengthBytes.count == 8, lengthBytes[7] == 0 else {
      throw .file("not a safetensors file: it does not begin with the length of a header", in: name)
    }
    let length = lengthBytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    guard length <= 100 << 20, source.size.map({ length <= $0 - 8 }) ?? true else {
      throw .file("the safetensors header claims \(length) bytes, more than the file can hold", in: name)
    }
    let header = try source.read(length)
    guard header.count == length else { throw .file("the safetensors header ends early", in: name) }
    let items: [String: Item]
    do {
      items = try JSONDecoder().decode([String: Item].self, from: header)
    } catch {
      throw .file("the safetensors header is not a JSON object of tensors", in: name)
    }
    var tensors: [(name: String, type: ElementType, entry: Entry, count: Int)] = []
    for (tensor, item) in items.sorted(by: { $0.key < $1.key }) {
      guard case .tensor(let entry) = item else { continue }
      guard let type = types[entry.dtype] else {
        throw .file(
          "tensor \(tensor): type \(entry.dtype), expected one of \(types.keys.sorted().joined(separator: ", "))",
          in: name)
      }
      guard let count = NumericArray.count(of: entry.shape),
        let bytes = NumPyFile.checkedProduct(count, type.size), entry.data_offsets.count == 2,
        entry.data_offsets[0] >= 0, entry.data_offsets[1] >= entry.data_offsets[0],
        entry.data_offsets[1] - entry.data_offsets[0] == bytes,
        source.size.map({ entry.data_offsets[1] <= $0 - 8 - length }) ?? true
      else {
        throw .file(
          "tensor \(tensor): data offsets \(entry.data_offsets) do not fit the shape "
            + "\(NumericArray.text(of: entry.shape)) of \(entry.dtype) inside the file", in: name)
      }
      tensors.append((tensor, type, entry, count))
    }
    // Tensors lie one after the other; reading them in file order needs no seeking, so a pipe will do.
    tensors.sort { ($0.entry.data_offsets[0], $0.count) < ($1.entry.data_offsets[0], $1.count) }
    var arrays: [String: NumericArray] = [:]
    var offset = 0
    for tensor in tensors {
      guard tensor.entry.data_offsets[0] == offset else {
        throw .file(
          "tensor \(tensor.name): begins at byte \(tensor.entry.data_offsets[0]) of the data, expected "
            + "\(offset): tensors follow each other without gaps", in: name)
      }
      offset = tensor.entry.data_offsets[1]
      arrays[tensor.name] = NumericArray(
        shape: tensor.entry.shape,
        values: try source.readElements(tensor.type, count: tensor.count, what: "tensor \(tensor.name)"))
    }
    return arrays
  }
}
