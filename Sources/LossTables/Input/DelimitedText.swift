import Foundation
import RiskControl

/// Reads CSV: rows of comma-separated numbers; the first line is a header where none of its fields is a number.
package enum DelimitedText {
  package struct Rows {
    /// Row-major (rowCount, columnCount).
    package var values: [Double] = []
    package var rowCount = 0
    package var columnCount = 0
    package var hasHeader = false
    /// Line of the first row of numbers, counted from 1.
    package var firstLine: Int { hasHeader ? 2 : 1 }
  }

  package static func read(_ data: Data, name: String) throws(RiskControlError) -> Rows {
    var rows = Rows()
    var line = 0
    var failure: RiskControlError?
    data.withUnsafeBytes { bytes in
      var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
      while start < bytes.count, failure == nil {
        let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
        var content = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
        if content.last == UInt8(ascii: "\r") {
          content = UnsafeRawBufferPointer(rebasing: content.dropLast())
        }
        line += 1
        start = end + 1
        if isBlank(content) {
          // Blank lines may end a file; within it they would hide a row that was lost.
          if !isBlank(UnsafeRawBufferPointer(rebasing: bytes[min(start, bytes.count)...])) {
            failure = .file("line \(line) is empty, expected numbers", in: name)
          }
          return
        }
        do throws(RiskControlError) {
          try append(content, line: line, to: &rows)
        } catch {
          failure = error.named(name)
        }
      }
    }
    if let failure { throw failure }
    guard rows.rowCount > 0 else { throw .file("the table is empty; expected rows of numbers", in: name) }
    return rows
  }

  private static func isBlank(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
  }

  private static func append(
    _ content: UnsafeRawBufferPointer, line: Int, to rows: inout Rows
  ) throws(RiskControlError) {
    var column = 0
    var start = 0
    var firstBad: RiskControlError?
    while start <= content.count {
      let end = fieldEnd(content, from: start)
      let field = trimmed(UnsafeRawBufferPointer(rebasing: content[start..<end]))
      column += 1
      if let number = number(field) {
        rows.values.append(number)
      } else if firstBad == nil {
        let text = String(decoding: field.prefix(40), as: UTF8.self)
        firstBad = .file(
          "row \(line), column \(column): " + (text.isEmpty ? "nothing" : "\"\(text)\"")
            + " where a number was expected" + (line == 1 ? "; a header has no numbers in it" : ""))
      }
      start = end + 1
    }
    if rows.columnCount == 0 { rows.columnCount = column }
    guard column == rows.columnCount else {
      throw .file("row \(line): \(column) columns, expected \(rows.columnCount) as in row 1")
    }
    if line == 1, rows.values.isEmpty {
      rows.hasHeader = true
    } else if let firstBad {
      throw firstBad
    } else {
      rows.rowCount += 1
    }
  }

  /// Where the field from `start` on ends; commas inside quotes belong to it.
  private static func fieldEnd(_ content: UnsafeRawBufferPointer, from start: Int) -> Int {
    var isQuoted = false
    var position = start
    while position < content.count {
      let byte = content[position]
      if byte == UInt8(ascii: "\"") { isQuoted.toggle() }
      if byte == UInt8(ascii: ","), !isQuoted { break }
      position += 1
    }
    return position
  }

  private static func trimmed(_ field: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    var (start, end) = (0, field.count)
    func isPadding(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    while start < end, isPadding(field[start]) { start += 1 }
    while end > start, isPadding(field[end - 1]) { end -= 1 }
    if end - start >= 2, field[start] == UInt8(ascii: "\""), field[end - 1] == UInt8(ascii: "\"") {
      start += 1
      end -= 1
    }
    return UnsafeRawBufferPointer(rebasing: field[start..<end])
  }

  private static let powersOfTen = (0...22).map { exponent in
    var power = 1.0
    for _ in 0..<exponent { power *= 10 }
    return power
  }

  /// The number that the bytes write, nan and infinity included so that they can be refused by name; nil where they
  /// write none.
  package static func number(_ field: UnsafeRawBufferPointer) -> Double? {
    // Up to 15 digits and a power of ten up to 22 are exact floats, and one division rounds once: the nearest number.
    var digits: UInt64 = 0
    var count = 0
    var fraction = 0
    var position = 0
    var sawPoint = false
    let isNegative = field.first == UInt8(ascii: "-")
    if isNegative { position = 1 }
    while position < field.count {
      let byte = field[position]
      if byte >= 0x30, byte <= 0x39 {
        digits = digits &* 10 &+ UInt64(byte &- 0x30)
        count += 1
        if sawPoint { fraction += 1 }
      } else if byte == UInt8(ascii: "."), !sawPoint {
        sawPoint = true
      } else {
        break
      }
      position += 1
    }
    if position == field.count, count > 0, count <= 15 {
      let value = Double(digits) / powersOfTen[fraction]
      return isNegative ? -value : value
    }
    guard !field.isEmpty, field.count <= 400 else { return nil }
    let text = String(decoding: field, as: UTF8.self)
    // Swift reads hexadecimal floats and "nan(…)" too, which no table of losses means.
    guard !text.contains("x"), !text.contains("X"), !text.contains("(") else { return nil }
    return Double(text) ?? Double(text.lowercased().replacingOccurrences(of: "infinity", with: "inf"))
  }
}
