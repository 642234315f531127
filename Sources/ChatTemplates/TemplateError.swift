/// Why a chat template cannot be read or run.
public enum TemplateError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The text is not a template; `line` counts from 1.
  case syntax(line: Int, expected: String, found: String)
  /// The template asks for something that this module does not have.
  case unsupported(line: Int, what: String)
  /// A value is not of the kind that an operation needs.
  case value(line: Int, expected: String, found: String)
  /// The template does too much: it loops, recurses, nests or writes beyond a limit.
  case limit(String)
  /// The template itself refuses what it is to write (`raise_exception`).
  case refused(String)

  /// The error as a sentence for a person, with the line of the template.
  public var description: String {
    switch self {
    case .syntax(let line, let expected, let found):
      "chat template, line \(line): expected \(expected), found \(found)"
    case .unsupported(let line, let what):
      "chat template, line \(line): \(what) is not supported"
    case .value(let line, let expected, let found):
      "chat template, line \(line): expected \(expected), found \(found)"
    case .limit(let what): "chat template: expected \(what), found more"
    case .refused(let message): "chat template: it refuses the conversation: \(message)"
    }
  }
}

/// What a template may use up while it runs.
public struct TemplateLimits: Sendable, Equatable {
  /// Operations; one that makes or reads a text or a list costs one more for each 16 of its elements.
  public var steps: Int
  /// Characters of the output, and of any one text on the way.
  public var length: Int
  /// Calls of macros within each other.
  public var depth: Int

  /// Sets limits; what is not given is far above what templates of published models need.
  ///
  /// - Parameters:
  ///   - steps: Operations.
  ///   - length: Characters of the output, and of any one text on the way.
  ///   - depth: Calls of macros within each other.
  public init(steps: Int = 2_000_000, length: Int = 16_000_000, depth: Int = 48) {
    self.steps = steps
    self.length = length
    self.depth = depth
  }
}

/// A piece of a foreign text fit for a message of one line.
func excerpt(_ text: some StringProtocol) -> String {
  var result = "\""
  for scalar in text.unicodeScalars.prefix(40) { result += scalar.escaped(asASCII: false) }
  return result + (text.unicodeScalars.count > 40 ? "…\"" : "\"")
}
