/// Looks for stop strings in text that arrives in pieces, and holds back what may become one.
///
/// It compares UTF-8 bytes: two spellings of a letter that Unicode calls equal are different texts here.
struct StopStringMatcher {
  private let stops: [[UInt8]]
  private var held: [UInt8] = []

  init(_ stops: [String]) {
    self.stops = stops.map { Array($0.utf8) }
  }

  /// Text that has arrived but may still turn out to be the beginning of a stop string.
  var withheld: String { String(decoding: held, as: UTF8.self) }

  /// Takes the next piece; returns what can be shown, and whether a stop string was found after it.
  ///
  /// Of several stop strings, the one that begins first ends the text.
  ///
  /// - Complexity: O(m × s) for a piece of m bytes and stop strings of s bytes in total.
  mutating func push(_ text: String) -> (visible: String, stopped: Bool) {
    if stops.isEmpty { return (text, false) }
    held.append(contentsOf: text.utf8)
    for start in held.indices {
      let rest = held[start...]
      if stops.contains(where: { rest.starts(with: $0) }) {
        let visible = String(decoding: held[..<start], as: UTF8.self)
        held = []
        return (visible, true)
      }
      if stops.contains(where: { $0.starts(with: rest) }) {
        // A later start cannot be a whole stop string unless it lies in this suffix, which is looked at again
        // when more text has come; but one that is shorter than this suffix may be complete already.
        if let inner = firstStop(after: start) {
          let visible = String(decoding: held[..<inner], as: UTF8.self)
          held = []
          return (visible, true)
        }
        let visible = String(decoding: held[..<start], as: UTF8.self)
        held.removeSubrange(..<start)
        return (visible, false)
      }
    }
    defer { held.removeAll(keepingCapacity: true) }
    return (withheld, false)
  }

  /// The rest, when no more text comes.
  mutating func finish() -> String {
    defer { held = [] }
    return withheld
  }

  private func firstStop(after start: Int) -> Int? {
    held.indices.dropFirst(start + 1).first { index in
      stops.contains { held[index...].starts(with: $0) }
    }
  }
}
