/// A text of which every character knows whether the template wrote it or the conversation said it.
///
/// Marks of a prompt's structure are read only where the template wrote them, so that no document can forge a turn.
public struct TemplateText: Sendable, Hashable, ExpressibleByStringLiteral {
  /// Unicode scalars; the highest bit is set for those that come from the conversation.
  var units: [UInt32]

  static let contentBit: UInt32 = 1 << 31

  init(units: some Sequence<UInt32>) { self.units = Array(units) }

  /// A text of the template, or of the conversation.
  public init(_ text: String, isContent: Bool = false) {
    units = text.unicodeScalars.map { $0.value | (isContent ? Self.contentBit : 0) }
  }

  /// A text that the template may write marks with.
  public init(stringLiteral value: String) { self.init(value) }

  /// Whether two texts have the same scalars, whatever their origins. O(length).
  public static func == (first: TemplateText, second: TemplateText) -> Bool {
    first.units.count == second.units.count
      && zip(first.units, second.units).allSatisfy { $0 & ~contentBit == $1 & ~contentBit }
  }

  /// Hashes the scalars without their origins.
  public func hash(into hasher: inout Hasher) {
    for unit in units { hasher.combine(unit & ~Self.contentBit) }
  }

  /// The text without its origins.
  public var string: String {
    var result = String.UnicodeScalarView()
    for unit in units { if let scalar = Self.scalar(unit) { result.append(scalar) } }
    return String(result)
  }

  /// The text in pieces of one origin each.
  public var pieces: [(text: String, isContent: Bool)] {
    var result: [(text: String, isContent: Bool)] = []
    var start = 0
    while start < units.count {
      let bit = units[start] & Self.contentBit
      var end = start
      while end < units.count, units[end] & Self.contentBit == bit { end += 1 }
      result.append((TemplateText(units: units[start..<end]).string, bit != 0))
      start = end
    }
    return result
  }

  static func scalar(_ unit: UInt32) -> Unicode.Scalar? { Unicode.Scalar(unit & ~contentBit) }

  static func isSpace(_ unit: UInt32) -> Bool {
    // Python counts the separators 1C to 1F as white space too.
    let value = unit & ~contentBit
    return (0x1C...0x1F).contains(value) || (scalar(unit)?.properties.isWhitespace ?? false)
  }

  /// Each scalar mapped by a function that may give several; they keep its origin.
  func mapScalars(_ body: (Unicode.Scalar) -> String) -> TemplateText {
    var result: [UInt32] = []
    result.reserveCapacity(units.count)
    for unit in units {
      guard let scalar = Self.scalar(unit) else { continue }
      for mapped in body(scalar).unicodeScalars { result.append(mapped.value | unit & Self.contentBit) }
    }
    return TemplateText(units: result)
  }

  /// The first place of another text from `start` on.
  func firstIndex(of other: TemplateText, from start: Int = 0) -> Int? {
    let size = other.units.count
    guard size > 0 else { return start <= units.count ? start : nil }
    guard units.count - start >= size else { return nil }
    return (start...(units.count - size)).first { starts(with: other, at: $0) }
  }

  func lastIndex(of other: TemplateText) -> Int? {
    guard units.count >= other.units.count else { return nil }
    return (0...(units.count - other.units.count)).last { starts(with: other, at: $0) }
  }

  func starts(with other: TemplateText, at index: Int = 0) -> Bool {
    guard index >= 0, units.count - index >= other.units.count else { return false }
    for (offset, unit) in other.units.enumerated()
    where units[index + offset] & ~Self.contentBit != unit & ~Self.contentBit { return false }
    return true
  }

  func ends(with other: TemplateText) -> Bool { starts(with: other, at: units.count - other.units.count) }

  /// Without white space, or the characters given, at its sides.
  func stripped(_ characters: TemplateText? = nil, left: Bool = true, right: Bool = true) -> TemplateText {
    func isStripped(_ unit: UInt32) -> Bool {
      guard let characters else { return Self.isSpace(unit) }
      return characters.units.contains { $0 & ~Self.contentBit == unit & ~Self.contentBit }
    }
    var range = 0..<units.count
    while left, let first = range.first, isStripped(units[first]) { range = first + 1..<range.upperBound }
    while right, let last = range.last, isStripped(units[last]) { range = range.lowerBound..<last }
    return TemplateText(units: units[range])
  }

  func replacing(_ old: TemplateText, with new: TemplateText, atMost limit: Int = .max) -> TemplateText {
    var result: [UInt32] = []
    var position = 0
    var count = 0
    if old.units.isEmpty {
      for unit in units {
        if count < limit { result += new.units }
        count += 1
        result.append(unit)
      }
      return TemplateText(units: count < limit ? result + new.units : result)
    }
    while position < units.count {
      if count < limit, starts(with: old, at: position) {
        result += new.units
        position += old.units.count
        count += 1
      } else {
        result.append(units[position])
        position += 1
      }
    }
    return TemplateText(units: result)
  }

  /// Parts between a separator; between runs of white space where it is nil.
  func split(_ separator: TemplateText?, atMost limit: Int = .max) -> [TemplateText] {
    var parts: [TemplateText] = []
    guard let separator, !separator.units.isEmpty else {
      var rest = stripped(right: false).units[...]
      while !rest.isEmpty {
        guard parts.count < limit, let end = rest.firstIndex(where: Self.isSpace) else {
          parts.append(TemplateText(units: rest).stripped(left: false))
          break
        }
        parts.append(TemplateText(units: rest[..<end]))
        rest = rest[end...].drop(while: Self.isSpace)
      }
      return parts
    }
    var start = 0
    while parts.count < limit, let found = firstIndex(of: separator, from: start) {
      parts.append(TemplateText(units: units[start..<found]))
      start = found + separator.units.count
    }
    return parts + [TemplateText(units: units[start...])]
  }

  static func + (first: TemplateText, second: TemplateText) -> TemplateText {
    TemplateText(units: first.units + second.units)
  }

  static func < (first: TemplateText, second: TemplateText) -> Bool {
    first.units.lazy.map { $0 & ~contentBit }.lexicographicallyPrecedes(
      second.units.lazy.map { $0 & ~contentBit })
  }
}
