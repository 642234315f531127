/// Why an input, a setting or a certificate was refused.
///
/// Each case names where the trouble is, what was expected and what was found; ``description`` puts it in one
/// sentence for a person. Nothing in this module clamps, skips or repairs a bad value silently.
public struct RiskControlError: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Kind: Equatable, Sendable {
    case file(String)
    case table(String)
    case setting(String)
    case certificate(String)
  }

  package let kind: Kind

  /// What the input was called: a path, or the name of a table made in memory; nil where it has none.
  public let source: String?

  /// One sentence: the place, what was expected, what was found.
  public var description: String {
    let text =
      switch kind {
      case .file(let text), .table(let text), .setting(let text), .certificate(let text): text
      }
    guard let source else { return text }
    return "\(source): \(text)"
  }

  /// Whether a setting (ε, δ, B, a rule that does not fit a bound) was refused, not data.
  public var isAboutSettings: Bool {
    if case .setting = kind { return true }
    return false
  }

  private init(_ kind: Kind, source: String?) {
    self.kind = kind
    self.source = source
  }

  package static func file(_ text: String, in source: String? = nil) -> RiskControlError {
    RiskControlError(.file(text), source: source)
  }

  package static func table(_ text: String, in source: String? = nil) -> RiskControlError {
    RiskControlError(.table(text), source: source)
  }

  package static func setting(_ text: String) -> RiskControlError {
    RiskControlError(.setting(text), source: nil)
  }

  package static func certificate(_ text: String, in source: String? = nil) -> RiskControlError {
    RiskControlError(.certificate(text), source: source)
  }

  /// The same error, said of the named file.
  package func named(_ name: String) -> RiskControlError {
    RiskControlError(kind, source: source ?? name)
  }
}

/// Writes a number the way a person typed it: 0.5, 3, 1e-09; never "0.5000000".
package func plain(_ value: Double) -> String {
  if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
  return "\(value)"
}
