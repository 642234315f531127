import Foundation

extension JSONSchemaCompiler {
  /// Bounds beyond this are as none: 15 digits are what every reader of JSON keeps.
  private static let bound = 1_000_000_000_000_000

  mutating func anyNumber() throws(GenerationError) -> ByteGrammar.Node {
    try part("number") { compiler throws(GenerationError) in
      try compiler.pattern("-?(?:0|[1-9][0-9]{0,14})(?:\\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")
    }
  }

  /// A pattern of characters that are not escaped in strings.
  private mutating func pattern(_ text: String) throws(GenerationError) -> ByteGrammar.Node {
    try part("pattern " + text) { compiler throws(GenerationError) in
      do throws(JSONPattern.Fault) {
        return try JSONPattern.compile(text, into: &compiler.grammar)
      } catch {
        throw .schema(place: "", problem: error.problem)
      }
    }
  }

  mutating func number(
    _ schema: OrderedJSON, _ place: String, isInteger: Bool
  ) throws(GenerationError) -> ByteGrammar.Node {
    let keys = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    var values: [String: Double] = [:]
    for key in keys {
      guard let value = schema[key] else { continue }
      guard case .number(let text) = value, let number = Double(text) else {
        throw .schema(place: Self.at(place, key), problem: "expected a number")
      }
      if !isInteger, number != number.rounded() || abs(number) > 1e9 {
        throw .schema(
          place: Self.at(place, key),
          problem: "for the type number, only whole numbers up to 1,000,000,000 are supported")
      }
      values[key] = number
    }
    if values.isEmpty, !isInteger { return try anyNumber() }
    if values.isEmpty {
      return try part("integer") { compiler throws(GenerationError) in
        try compiler.pattern("-?(?:0|[1-9][0-9]{0,14})")
      }
    }
    let alternatives =
      isInteger ? Self.integers(values) : Self.numbers(values)
    guard !alternatives.isEmpty else {
      throw .schema(place: place, problem: "no number is between its bounds")
    }
    return try pattern(alternatives.joined(separator: "|"))
  }

  private static func clamped(_ number: Double) -> Int {
    Int(max(-Double(bound), min(Double(bound), number)))
  }

  private static func integers(_ values: [String: Double]) -> [String] {
    var (low, high) = (-bound, bound)
    if let value = values["minimum"] { low = max(low, clamped(value.rounded(.up))) }
    if let value = values["exclusiveMinimum"] { low = max(low, clamped(value.rounded(.down) + 1)) }
    if let value = values["maximum"] { high = min(high, clamped(value.rounded(.down))) }
    if let value = values["exclusiveMaximum"] { high = min(high, clamped(value.rounded(.up) - 1)) }
    guard low <= high, values.values.allSatisfy({ abs($0) < 1e300 }) else { return [] }
    // A bound that was clamped away from the numbers it allows.
    if let value = values["minimum"] ?? values["exclusiveMinimum"], value > Double(bound) { return [] }
    if let value = values["maximum"] ?? values["exclusiveMaximum"], value < -Double(bound) { return [] }
    var patterns: [String] = []
    if high >= 0 { patterns += range(max(0, low), high) }
    if low < 0 { patterns += range(max(1, -high), -low).map { "-" + $0 } }
    return patterns
  }

  private static func numbers(_ values: [String: Double]) -> [String] {
    func bounds(_ plain: String, _ exclusive: String, _ sign: Double) -> (limit: Int, isExclusive: Bool) {
      let open = values[exclusive].map { (clamped($0), true) }
      guard let value = values[plain] else { return open ?? (clamped(-sign * 1e15), false) }
      let closed = (clamped(value), false)
      guard let open else { return closed }
      // Of two bounds the stricter one.
      return Double(open.0) * sign <= value * sign ? open : closed
    }
    let low = bounds("minimum", "exclusiveMinimum", 1)
    let high = bounds("maximum", "exclusiveMaximum", -1)
    guard low.limit < high.limit || low.limit == high.limit && !low.isExclusive && !high.isExclusive else {
      return []
    }
    var patterns: [String] = []
    if high.limit > 0 || high.limit == 0 && low.limit == 0 {
      let start = low.limit >= 0 ? low : (limit: 0, isExclusive: false)
      patterns += magnitudes(start, high)
    }
    if low.limit < 0 {
      let end = high.limit <= 0 ? high : (limit: 0, isExclusive: true)
      patterns += magnitudes((-end.limit, end.isExclusive), (-low.limit, low.isExclusive)).map { "-" + $0 }
    }
    return patterns
  }

  /// Numbers from one whole number of at least 0 to another, as patterns.
  private static func magnitudes(
    _ low: (limit: Int, isExclusive: Bool), _ high: (limit: Int, isExclusive: Bool)
  ) -> [String] {
    var patterns: [String] = []
    if !low.isExclusive { patterns.append("\(low.limit)(?:\\.0{1,6})?") }
    guard low.limit < high.limit else { return patterns }
    patterns.append("\(low.limit)\\.[0-9]{0,5}[1-9]")
    if low.limit + 1 < high.limit {
      patterns += range(low.limit + 1, high.limit - 1).map { $0 + "(?:\\.[0-9]{1,6})?" }
    }
    if !high.isExclusive { patterns.append("\(high.limit)(?:\\.0{1,6})?") }
    return patterns
  }

  /// The whole numbers from one of at least 0 to another, as patterns: a few for each digit.
  static func range(_ low: Int, _ high: Int) -> [String] {
    var patterns: [String] = []
    var start = low
    while start <= high {
      let digits = String(start).count
      // The largest number of as many digits.
      let last = (0..<digits).reduce(0) { sum, _ in sum * 10 + 9 }
      patterns += between(Self.digits(start), Self.digits(min(high, last)))
      start = last + 1
    }
    return patterns
  }

  private static func digits(_ number: Int) -> ArraySlice<Int> {
    String(number).compactMap(\.wholeNumberValue)[...]
  }

  private static func any(_ count: Int) -> String { count == 0 ? "" : "[0-9]{\(count)}" }

  private static func one(_ low: Int, _ high: Int) -> String { low == high ? "\(low)" : "[\(low)-\(high)]" }

  private static func between(_ low: ArraySlice<Int>, _ high: ArraySlice<Int>) -> [String] {
    guard let first = low.first, let last = high.first else { return [""] }
    let (rest, end) = (low.dropFirst(), high.dropFirst())
    if low.allSatisfy({ $0 == 0 }), high.allSatisfy({ $0 == 9 }) { return [any(low.count)] }
    if first == last { return between(rest, end).map { "\(first)" + $0 } }
    // First digits after which anything may follow.
    var (from, to) = (first, last)
    var patterns: [String] = []
    if rest.contains(where: { $0 != 0 }) {
      patterns += between(rest, rest.map { _ in 9 }[...]).map { "\(first)" + $0 }
      from += 1
    }
    if end.contains(where: { $0 != 9 }) {
      patterns += between(end.map { _ in 0 }[...], end).map { "\(last)" + $0 }
      to -= 1
    }
    return from <= to ? patterns + [one(from, to) + any(rest.count)] : patterns
  }
}
