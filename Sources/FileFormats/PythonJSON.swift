import Foundation

/// JSON as Python's `json` module writes it, made such as other readers accept.
///
/// Python writes `NaN`, `Infinity` and `-Infinity`, which no JSON has, and escapes of half a surrogate pair, which
/// stand for no text.
public enum PythonJSON {
  /// The document with those numbers as strings, so that a reader who wants a number there says so and all others do
  /// not mind, and with U+FFFD for half a pair.
  ///
  /// - Complexity: O(bytes). A document without any of these is returned as it is.
  public static func normalized(_ document: Data) -> Data {
    document.withUnsafeBytes { bytes in
      var result = Data()
      var copied = 0
      func replace(_ range: Range<Int>, _ text: String) {
        result.append(contentsOf: bytes[copied..<range.lowerBound])
        result.append(contentsOf: text.utf8)
        copied = range.upperBound
      }
      var index = 0
      while index < bytes.count {
        switch bytes[index] {
        case UInt8(ascii: "\""):
          index = scanString(bytes, from: index + 1, replace)
        case UInt8(ascii: "N"), UInt8(ascii: "I"), UInt8(ascii: "-"):
          let word = ["NaN", "Infinity", "-Infinity"].first { starts(bytes, at: index, with: $0) }
          if let word {
            replace(index..<index + word.utf8.count, "\"\(word)\"")
            index += word.utf8.count
          } else {
            index += 1
          }
        default: index += 1
        }
      }
      guard copied > 0 else { return document }
      result.append(contentsOf: bytes[copied...])
      return result
    }
  }

  private static func starts(_ bytes: UnsafeRawBufferPointer, at index: Int, with text: String) -> Bool {
    bytes[index...].starts(with: text.utf8)
  }

  /// Replaces halves of pairs in a string.
  ///
  /// - Returns: The offset after its closing quotation mark.
  private static func scanString(
    _ bytes: UnsafeRawBufferPointer, from start: Int, _ replace: (Range<Int>, String) -> Void
  ) -> Int {
    var index = start
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "\""): return index + 1
      case UInt8(ascii: "\\"):
        guard let unit = escapedUnit(bytes, at: index) else {
          index += 2
          continue
        }
        if unit & 0xFC00 == 0xD800, let next = escapedUnit(bytes, at: index + 6), next & 0xFC00 == 0xDC00 {
          index += 12
          continue
        }
        if unit & 0xF800 == 0xD800 { replace(index..<index + 6, "\\ufffd") }
        index += 6
      default: index += 1
      }
    }
    return index
  }

  /// The code unit of an escape `\uXXXX` at that place.
  private static func escapedUnit(_ bytes: UnsafeRawBufferPointer, at index: Int) -> UInt16? {
    guard index + 6 <= bytes.count, bytes[index] == UInt8(ascii: "\\"), bytes[index + 1] == UInt8(ascii: "u")
    else { return nil }
    return UInt16(String(decoding: bytes[index + 2..<index + 6], as: UTF8.self), radix: 16)
  }
}
