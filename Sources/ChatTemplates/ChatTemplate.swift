import Foundation

/// A chat template: a program, in the part of the Jinja language that chat templates use, that writes a conversation as
/// a prompt.
///
/// It is run as `transformers` runs it (`trim_blocks`, `lstrip_blocks`, loop controls, `raise_exception`,
/// `strftime_now`), with limits on what it may use up. Nothing that it can name reaches outside of what it is given.
public struct ChatTemplate: Sendable {
  private let statements: [Statement]
  private let limits: TemplateLimits

  /// Reads a template.
  ///
  /// - Throws: ``TemplateError/syntax(line:expected:found:)``, ``TemplateError/unsupported(line:what:)`` for another
  ///   statement, and ``TemplateError/limit(_:)`` for absurd sizes.
  /// - Complexity: O(characters).
  public init(_ source: String, limits: TemplateLimits = TemplateLimits()) throws(TemplateError) {
    statements = try Parser.statements(source)
    self.limits = limits
  }

  /// Runs the template.
  ///
  /// - Parameters:
  ///   - variables: What it can name: `messages`, `add_generation_prompt`, `bos_token` and so on.
  ///   - date: What `strftime_now` tells, in the local time zone.
  /// - Returns: The prompt, each character with its origin.
  /// - Throws: ``TemplateError``.
  public func render(
    _ variables: [String: TemplateValue], date: Date = Date()
  ) throws(TemplateError) -> TemplateText {
    let scope = Scope(parent: nil)
    for name in ["range", "namespace", "dict", "raise_exception", "strftime_now"] {
      scope.values[name] = .object(TemplateObject(.function(name)))
    }
    for (name, value) in variables { scope.values[name] = value }
    var interpreter = Interpreter(limits: limits, date: date)
    try interpreter.run(statements, Scope(parent: scope))
    return TemplateText(units: interpreter.output)
  }
}

/// Names and their values, over those of what surrounds them.
///
/// `@unchecked Sendable`: it belongs to the one run that made it, which stays on one thread.
final class Scope: @unchecked Sendable {
  let parent: Scope?
  var values: [String: TemplateValue] = [:]

  init(parent: Scope?) { self.parent = parent }

  func find(_ name: String) -> TemplateValue? {
    var scope: Scope? = self
    while let current = scope {
      if let value = current.values[name] { return value }
      scope = current.parent
    }
    return nil
  }
}
