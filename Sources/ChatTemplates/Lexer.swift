/// Cuts a template's source into text, outputs and blocks, with the white space rules that chat templates are written
/// for: a line end after a block goes with it, and so does white space before a block on its line.
struct Lexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var tokens: [Token] = []

  /// Longer templates than any model's.
  private static let lengthLimit = 1 << 20
  private static let symbolLimit = 1 << 17
  private var symbolCount = 0

  static func tokens(_ source: String) throws(TemplateError) -> [Token] {
    guard source.utf8.count <= lengthLimit else { throw .limit("a template of at most \(lengthLimit) bytes") }
    var lexer = Lexer(source)
    try lexer.run()
    return lexer.tokens
  }

  private init(_ source: String) {
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(source.utf8.count)
    for scalar in source.unicodeScalars {
      // \r\n and \r are line ends like \n.
      if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
      scalars.append(scalar)
    }
    self.source = scalars.map { $0 == "\r" ? "\n" : $0 }
    if self.source.last == "\n" { end = self.source.count - 1 } else { end = self.source.count }
  }

  private let end: Int

  private func scalar(_ offset: Int = 0) -> Unicode.Scalar? {
    position + offset < end ? source[position + offset] : nil
  }

  private func isAt(_ text: String) -> Bool {
    var index = position
    for wanted in text.unicodeScalars {
      guard index < end, source[index] == wanted else { return false }
      index += 1
    }
    return true
  }

  private mutating func advance(_ count: Int) {
    for _ in 0..<count where position < end {
      if source[position] == "\n" { line += 1 }
      position += 1
    }
  }

  private mutating func run() throws(TemplateError) {
    // Whether the text at hand begins a line of the source.
    var startsLine = true
    while position < end {
      let start = position
      while position < end, !isAt("{{"), !isAt("{%"), !isAt("{#") { advance(1) }
      var text = source[start..<position]
      guard position < end else {
        append(text)
        break
      }
      let opening = source[position + 1]
      let sign = scalar(2)
      if sign == "-" {
        while let last = text.last, last.properties.isWhitespace { text.removeLast() }
      } else if sign != "+", opening != "{" {
        let lineStart = text.lastIndex(of: "\n").map { $0 + 1 }
        if lineStart != nil || startsLine {
          let tail = text[(lineStart ?? text.startIndex)...]
          if tail.allSatisfy(\.properties.isWhitespace) { text = text[..<tail.startIndex] }
        }
      }
      append(text)
      let startLine = line
      advance(sign == "-" || sign == "+" ? 3 : 2)
      switch opening {
      case "#":
        while position < end, !isAt("#}") { advance(1) }
        guard position < end else {
          throw .syntax(line: startLine, expected: "the end of a comment", found: "none")
        }
        let isTrimming = source[position - 1] == "-"
        let keeps = source[position - 1] == "+"
        advance(2)
        startsLine = skipAfter(isTrimming: isTrimming, dropsLineEnd: !keeps)
      case "{":
        let (symbols, sign) = try symbols(until: "}}")
        tokens.append(.output(symbols, line: startLine))
        startsLine = skipAfter(isTrimming: sign == "-", dropsLineEnd: false)
      default:
        let (symbols, sign) = try symbols(until: "%}")
        startsLine = skipAfter(isTrimming: sign == "-", dropsLineEnd: sign != "+")
        if case .name("raw") = symbols.first?.kind {
          startsLine = try raw(startLine)
        } else {
          tokens.append(.block(symbols, line: startLine))
        }
      }
    }
  }

  /// - Returns: Whether what was skipped ended a line.
  private mutating func skipAfter(isTrimming: Bool, dropsLineEnd: Bool) -> Bool {
    let start = position
    if isTrimming {
      while let next = scalar(), next.properties.isWhitespace { advance(1) }
    } else if dropsLineEnd, scalar() == "\n" {
      advance(1)
    }
    return position > start && source[position - 1] == "\n"
  }

  /// Text up to `{% endraw %}`, as it is.
  private mutating func raw(_ startLine: Int) throws(TemplateError) -> Bool {
    let start = position
    while position < end {
      if isAt("{%") {
        let before = position
        let isTrimming = scalar(2) == "-"
        advance(isTrimming || scalar(2) == "+" ? 3 : 2)
        while let next = scalar(), next.properties.isWhitespace { advance(1) }
        if isAt("endraw") {
          var text = source[start..<before]
          if isTrimming { while let last = text.last, last.properties.isWhitespace { text.removeLast() } }
          append(text)
          let (_, sign) = try symbols(until: "%}")
          return skipAfter(isTrimming: sign == "-", dropsLineEnd: sign != "+")
        }
      } else {
        advance(1)
      }
    }
    throw .syntax(line: startLine, expected: "endraw", found: "the end of the template")
  }

  private mutating func append(_ text: ArraySlice<Unicode.Scalar>) {
    guard !text.isEmpty else { return }
    var view = String.UnicodeScalarView()
    view.append(contentsOf: text)
    tokens.append(.text(String(view)))
  }

  private static let marks = [
    "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ",", ":", "|", "(",
    ")", "[", "]", "{", "}",
  ]

  /// The tokens of an expression, and the sign before its closing mark.
  private mutating func symbols(
    until closing: String
  ) throws(TemplateError) -> (symbols: [Symbol], sign: Unicode.Scalar?) {
    var result: [Symbol] = []
    let startLine = line
    var brackets: [String] = []
    while let next = scalar() {
      if next.properties.isWhitespace {
        advance(1)
        continue
      }
      symbolCount += 1
      guard symbolCount <= Self.symbolLimit else {
        throw .limit("a template of at most \(Self.symbolLimit) tokens")
      }
      // A brace that was opened closes before the output does.
      if brackets.isEmpty {
        if isAt(closing) {
          advance(2)
          return (result, nil)
        }
        if isAt("-" + closing) || isAt("+" + closing) {
          let sign = next
          advance(3)
          return (result, sign)
        }
      }
      if next == "'" || next == "\"" {
        result.append(try string(next))
      } else if ("0"..."9").contains(next) {
        result.append(try number())
      } else if next == "_" || next.properties.isAlphabetic {
        let start = position
        while let next = scalar(), next == "_" || next.properties.isAlphabetic || ("0"..."9").contains(next) {
          advance(1)
        }
        result.append(Symbol(kind: .name(text(start..<position)), line: line))
      } else if let mark = Self.marks.first(where: isAt) {
        if "([{".contains(mark) { brackets.append(mark) }
        if [")", "]", "}"].contains(mark) {
          guard let open = brackets.popLast(), ["()", "[]", "{}"].contains(open + mark) else {
            throw .syntax(line: line, expected: "balanced brackets", found: excerpt(mark))
          }
        }
        result.append(Symbol(kind: .mark(mark), line: line))
        advance(mark.unicodeScalars.count)
      } else {
        throw .syntax(line: line, expected: "an expression", found: excerpt(String(next)))
      }
    }
    throw .syntax(line: startLine, expected: excerpt(closing), found: "the end of the template")
  }

  private func text(_ range: Range<Int>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: source[range])
    return String(view)
  }

  private mutating func number() throws(TemplateError) -> Symbol {
    let start = position
    var isDouble = false
    while let next = scalar() {
      let isDigit = ("0"..."9").contains(next) || next == "_"
      let isPoint = next == "." && !isDouble && scalar(1).map { ("0"..."9").contains($0) } == true
      guard isDigit || isPoint else { break }
      isDouble = isDouble || isPoint
      advance(1)
    }
    let digits = text(start..<position).filter { $0 != "_" }
    if isDouble, let value = Double(digits) { return Symbol(kind: .double(value), line: line) }
    guard let value = Int(digits) else {
      throw .syntax(line: line, expected: "a number that fits 64 bits", found: excerpt(digits))
    }
    return Symbol(kind: .int(value), line: line)
  }

  private mutating func string(_ quote: Unicode.Scalar) throws(TemplateError) -> Symbol {
    let startLine = line
    advance(1)
    var result = String.UnicodeScalarView()
    while let next = scalar() {
      advance(1)
      if next == quote { return Symbol(kind: .string(String(result)), line: startLine) }
      guard next == "\\", let escaped = scalar() else {
        result.append(next)
        continue
      }
      advance(1)
      switch escaped {
      case "n": result.append("\n")
      case "t": result.append("\t")
      case "r": result.append("\r")
      case "b": result.append("\u{8}")
      case "f": result.append("\u{C}")
      case "v": result.append("\u{B}")
      case "a": result.append("\u{7}")
      case "0": result.append("\0")
      case "\\", "'", "\"": result.append(escaped)
      case "\n": break
      case "x", "u", "U":
        let count = escaped == "x" ? 2 : escaped == "u" ? 4 : 8
        let digits = text(position..<min(position + count, end))
        guard digits.count == count, let value = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(value)
        else { throw .syntax(line: line, expected: "\(count) hexadecimal digits", found: excerpt(digits)) }
        result.append(scalar)
        advance(count)
      default:
        // Python keeps the backslash of an escape that it does not know.
        result.append("\\")
        result.append(escaped)
      }
    }
    throw .syntax(line: startLine, expected: "the end of a string", found: "the end of the template")
  }
}
