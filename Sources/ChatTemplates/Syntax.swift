/// A template as the parser leaves it.
indirect enum Expression: Sendable {
  case literal(TemplateValue)
  case name(String)
  case list([Expression])
  case map([(key: Expression, value: Expression)])
  case attribute(Expression, String)
  case element(Expression, at: Expression)
  case slice(Expression, from: Expression?, to: Expression?, by: Expression?)
  case call(Expression, Arguments)
  case filter(Expression, String, Arguments)
  case test(Expression, String, Arguments, isNegated: Bool)
  case negate(Expression)
  case not(Expression)
  case and(Expression, Expression)
  case or(Expression, Expression)
  case binary(String, Expression, Expression)
  case comparison(Expression, [(mark: String, value: Expression)])
  case condition(Expression, then: Expression, otherwise: Expression?)
  /// An expression with the line it stands on, for messages.
  case at(Int, Expression)
}

struct Arguments: Sendable {
  var positional: [Expression] = []
  var named: [(name: String, value: Expression)] = []
}

enum Statement: Sendable {
  case text(TemplateText)
  case output(Expression)
  case set([String], Expression)
  case setField(String, String, Expression, line: Int)
  case setBlock(String, [Statement])
  case condition([(condition: Expression, body: [Statement])], otherwise: [Statement])
  case loop(Loop)
  case macro(Macro)
  case breakLoop(line: Int)
  case continueLoop(line: Int)
}

struct Loop: Sendable {
  var names: [String]
  var sequence: Expression
  var filter: Expression?
  var body: [Statement]
  var otherwise: [Statement]
  var line: Int
}

struct Macro: Sendable {
  var name: String
  var parameters: [(name: String, usual: Expression?)]
  var body: [Statement]
  var line: Int
}

/// A piece of a template's source.
enum Token: Sendable {
  case text(String)
  /// `{{`, with the tokens up to `}}`.
  case output([Symbol], line: Int)
  /// `{%`, with the tokens up to `%}`.
  case block([Symbol], line: Int)
}

/// A token of an expression.
struct Symbol: Sendable {
  enum Kind: Sendable, Equatable {
    case name(String)
    case string(String)
    case int(Int)
    case double(Double)
    case mark(String)
  }
  var kind: Kind
  var line: Int

  var description: String {
    switch kind {
    case .name(let name): excerpt(name)
    case .string(let text): "the string \(excerpt(text))"
    case .int(let value): "\(value)"
    case .double(let value): "\(value)"
    case .mark(let mark): excerpt(mark)
    }
  }
}
