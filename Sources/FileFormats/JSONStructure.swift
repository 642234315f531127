import Foundation

/// Reads JSON of unknown origin: refuses what Foundation would accept silently or at any cost, then decodes it.
///
/// Foundation keeps one of several equal keys, and builds whatever a document describes. A scan beforehand finds
/// equal keys and bounds depth and number of values. It looks at strings and punctuation only; whether the
/// document is otherwise JSON is left to the decoder.
package enum JSONStructure {
  static let depthLimit = 32
  /// Values and keys; a checkpoint of 65,536 tensors has about a quarter of it.
  package static let valueLimit = 1 << 21

  /// Decodes `bytes` as `type`.
  ///
  /// - Parameters:
  ///   - field: what the document is, for messages: `header` or empty for the whole file.
  ///   - valueLimit: values and keys that it may have.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from bytes: UnsafeRawBufferPointer, file: String, field: String,
    valueLimit: Int = Self.valueLimit
  ) throws(FileError) -> Value {
    try check(bytes, file: file, field: field, valueLimit: valueLimit)
    do {
      return try JSONDecoder().decode(type, from: PythonJSON.normalized(Data(bytes)))
    } catch let error as DecodingError {
      throw describe(error, file: file, field: field)
    } catch {
      throw .damaged(file, field, expected: "JSON", found: "something else")
    }
  }

  /// An object whose keys are being collected, or an array.
  private struct Level {
    var keys: Set<String>?
  }

  private static func check(
    _ bytes: UnsafeRawBufferPointer, file: String, field: String, valueLimit: Int
  ) throws(FileError) {
    var levels: [Level] = []
    var values = 0
    var index = 0
    // The last string seen, which is a key if a colon follows.
    var lastString: Range<Int>?
    func fail(_ expected: String, _ found: String) -> FileError {
      .damaged(file, field, expected: expected, found: found)
    }
    while index < bytes.count {
      let byte = bytes[index]
      switch byte {
      case UInt8(ascii: "\""):
        guard let end = endOfString(bytes, from: index + 1) else {
          throw fail("JSON", "a string without an end at byte \(index)")
        }
        lastString = index..<end
        index = end
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        levels.append(Level(keys: byte == UInt8(ascii: "{") ? [] : nil))
        values += 1
        guard levels.count <= depthLimit else {
          throw fail("JSON at most \(depthLimit) levels deep", "more levels")
        }
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        guard levels.popLast() != nil else {
          throw fail("JSON", "a closing bracket without an opening one at byte \(index)")
        }
      case UInt8(ascii: ":"):
        values += 1
        guard let range = lastString, let last = levels.indices.last, levels[last].keys != nil
        else {
          throw fail("JSON", "a colon without a key at byte \(index)")
        }
        let key = try decodeKey(
          UnsafeRawBufferPointer(rebasing: bytes[range]), fail("JSON", "a damaged key"))
        guard levels[last].keys?.insert(key).inserted == true else {
          throw fail("the key \"\(FileError.printable(key))\" once", "it twice")
        }
        lastString = nil
      case UInt8(ascii: ","):
        values += 1
      default: break
      }
      guard values <= valueLimit else {
        throw fail("JSON of at most \(valueLimit) values", "more values")
      }
      index += 1
    }
    guard levels.isEmpty else { throw fail("JSON", "the end inside an object or array") }
  }

  /// The offset after the closing quotation mark of a string whose content begins at `start`.
  private static func endOfString(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    var index = start
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "\"") { return index + 1 }
      index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
    }
    return nil
  }

  /// The text of a quoted key. Escapes are decoded, because `a` and `\u0061` are the same key.
  private static func decodeKey(
    _ quoted: UnsafeRawBufferPointer, _ failure: FileError
  ) throws(FileError) -> String {
    if quoted.contains(UInt8(ascii: "\\")) {
      guard let key = try? JSONDecoder().decode(String.self, from: Data(quoted)) else {
        throw failure
      }
      return key
    }
    guard let key = String(validating: quoted[1..<quoted.count - 1], as: UTF8.self) else {
      throw failure
    }
    return key
  }

  private static func describe(_ error: DecodingError, file: String, field: String) -> FileError {
    func place(_ path: [any CodingKey]) -> String {
      let keys = path.map { $0.intValue.map { "[\($0)]" } ?? FileError.printable($0.stringValue) }
      return ([field].filter { !$0.isEmpty } + keys).joined(separator: ": ")
    }
    switch error {
    case .keyNotFound(let key, let context):
      return .damaged(
        file, place(context.codingPath + [key]), expected: "a value", found: "no such key")
    case .typeMismatch(let type, let context):
      return .damaged(
        file, place(context.codingPath), expected: kindName(type), found: "a value of another type")
    case .valueNotFound(let type, let context):
      return .damaged(file, place(context.codingPath), expected: kindName(type), found: "null")
    case .dataCorrupted(let context):
      let found = context.codingPath.isEmpty ? "text that is not JSON" : "a value out of range"
      return .damaged(file, place(context.codingPath), expected: "JSON", found: found)
    @unknown default:
      return .damaged(file, field, expected: "JSON", found: "something else")
    }
  }

  private static func kindName(_ type: any Any.Type) -> String {
    switch type {
    case is Int.Type, is UInt64.Type: "an integer"
    case is Float.Type, is Double.Type: "a number"
    case is Bool.Type: "true or false"
    case is String.Type: "a string"
    case is [Int].Type, is [UInt64].Type, is [Any].Type: "an array"
    default: "an object"
    }
  }
}
