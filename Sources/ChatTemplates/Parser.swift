/// Turns tokens into statements, by recursive descent to a limited depth.
struct Parser {
  private let tokens: [Token]
  private var position = 0
  private var depth = 0
  private var loopDepth = 0

  /// Blocks within blocks.
  private static let depthLimit = 64

  static func statements(_ source: String) throws(TemplateError) -> [Statement] {
    var parser = Parser(tokens: try Lexer.tokens(source))
    let (body, ending) = try parser.body(until: [], line: 1)
    if let ending { throw .syntax(line: ending.line, expected: "no such end", found: excerpt(ending.name)) }
    return body
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  private struct Ending {
    var name: String
    var symbols: [Symbol]
    var line: Int
  }

  /// Statements up to one of the blocks named, which is taken too.
  private mutating func body(
    until endings: Set<String>, line: Int
  ) throws(TemplateError) -> (body: [Statement], ending: Ending?) {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else { throw .limit("blocks at most \(Self.depthLimit) levels deep") }
    var body: [Statement] = []
    while position < tokens.count {
      let token = tokens[position]
      position += 1
      switch token {
      case .text(let text): body.append(.text(TemplateText(text)))
      case .output(let symbols, let line):
        var parser = ExpressionParser(symbols, line: line)
        let value = try parser.tuple()
        try parser.end()
        body.append(.output(value))
      case .block(let symbols, let line):
        guard case .name(let name) = symbols.first?.kind else {
          throw .syntax(line: line, expected: "a statement", found: symbols.first?.description ?? "nothing")
        }
        if endings.contains(name) {
          return (body, Ending(name: name, symbols: Array(symbols.dropFirst()), line: line))
        }
        try statement(name, ExpressionParser(Array(symbols.dropFirst()), line: line), line, into: &body)
      }
    }
    guard endings.isEmpty else {
      throw .syntax(
        line: line, expected: endings.sorted().joined(separator: " or "), found: "the end of the template")
    }
    return (body, nil)
  }

  private mutating func statement(
    _ name: String, _ symbols: ExpressionParser, _ line: Int, into body: inout [Statement]
  ) throws(TemplateError) {
    var symbols = symbols
    switch name {
    case "if":
      body.append(try condition(symbols, line))
      return
    case "for":
      body.append(.loop(try loop(&symbols, line)))
      return
    case "set":
      body.append(try set(&symbols, line))
      return
    case "macro":
      body.append(.macro(try macro(&symbols, line)))
      return
    case "generation":
      // It marks what the model said, for training.
      try symbols.end()
      let (inner, _) = try self.body(until: ["endgeneration"], line: line)
      body += inner
      return
    case "break", "continue":
      guard loopDepth > 0 else {
        throw .syntax(line: line, expected: "a loop around it", found: excerpt(name))
      }
      body.append(name == "break" ? .breakLoop(line: line) : .continueLoop(line: line))
    default:
      let known = ["endif", "endfor", "else", "elif", "endset", "endmacro", "endgeneration"]
      guard known.contains(name) else {
        throw .unsupported(line: line, what: "the statement \(excerpt(name))")
      }
      throw .syntax(line: line, expected: "a block that it ends", found: excerpt(name))
    }
    try symbols.end()
  }

  private mutating func condition(_ symbols: ExpressionParser, _ line: Int) throws(TemplateError) -> Statement
  {
    var symbols = symbols
    var branches: [(condition: Expression, body: [Statement])] = []
    while true {
      let condition = try symbols.expression()
      try symbols.end()
      let (inner, ending) = try body(until: ["elif", "else", "endif"], line: line)
      branches.append((condition, inner))
      guard let ending, ending.name == "elif" else {
        guard ending?.name == "else" else { return .condition(branches, otherwise: []) }
        let (otherwise, _) = try body(until: ["endif"], line: line)
        return .condition(branches, otherwise: otherwise)
      }
      symbols = ExpressionParser(ending.symbols, line: ending.line)
    }
  }

  private mutating func loop(_ symbols: inout ExpressionParser, _ line: Int) throws(TemplateError) -> Loop {
    var names = [try symbols.name("a name")]
    while symbols.take(",") { names.append(try symbols.name("a name")) }
    guard symbols.take(name: "in") else {
      throw .syntax(line: line, expected: "in", found: symbols.nextDescription)
    }
    let sequence = try symbols.disjunction()
    let filter = symbols.take(name: "if") ? try symbols.expression() : nil
    if symbols.take(name: "recursive") { throw .unsupported(line: line, what: "a recursive loop") }
    try symbols.end()
    loopDepth += 1
    let (inner, ending) = try body(until: ["else", "endfor"], line: line)
    loopDepth -= 1
    var otherwise: [Statement] = []
    if ending?.name == "else" { (otherwise, _) = try body(until: ["endfor"], line: line) }
    return Loop(
      names: names, sequence: sequence, filter: filter, body: inner, otherwise: otherwise, line: line)
  }

  private mutating func set(_ symbols: inout ExpressionParser, _ line: Int) throws(TemplateError) -> Statement
  {
    let name = try symbols.name("a name")
    if symbols.take(".") {
      let field = try symbols.name("a field")
      try symbols.expect("=")
      let value = try symbols.tuple()
      try symbols.end()
      return .setField(name, field, value, line: line)
    }
    var names = [name]
    while symbols.take(",") { names.append(try symbols.name("a name")) }
    if symbols.take("=") {
      let value = try symbols.tuple()
      try symbols.end()
      return .set(names, value)
    }
    try symbols.end()
    let (inner, _) = try body(until: ["endset"], line: line)
    return .setBlock(name, inner)
  }

  private mutating func macro(_ symbols: inout ExpressionParser, _ line: Int) throws(TemplateError) -> Macro {
    let name = try symbols.name("a name")
    try symbols.expect("(")
    var parameters: [(name: String, usual: Expression?)] = []
    while !symbols.take(")") {
      if !parameters.isEmpty { try symbols.expect(",") }
      let parameter = try symbols.name("a parameter")
      parameters.append((parameter, symbols.take("=") ? try symbols.expression() : nil))
    }
    try symbols.end()
    let outerLoops = loopDepth
    loopDepth = 0
    let (inner, _) = try body(until: ["endmacro"], line: line)
    loopDepth = outerLoops
    return Macro(name: name, parameters: parameters, body: inner, line: line)
  }
}
