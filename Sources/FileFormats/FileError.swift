/// Why a checkpoint cannot be used: the file, the field in it, what was expected and what was found.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What kind of fault it is, for callers that treat them differently.
  public enum Kind: Sendable, Equatable {
    /// The file is missing, is not a file, or the system does not let it be read.
    case unreadable
    /// The file breaks its format: cut short, or with counts, sizes, offsets or values that cannot be.
    case damaged
    /// The file is sound, but of a kind that is not read.
    case unsupported
    /// A tensor that the configuration demands is missing or has another shape.
    case tensor
  }

  /// What kind of fault it is.
  public let kind: Kind
  /// Path of the file, or of the directory when a file in it is missing.
  public let file: String
  /// The field, metadata key or tensor at fault; empty when it is the file as a whole.
  public let field: String
  /// What should have been there, in words.
  public let expected: String
  /// What is there, in words.
  public let found: String

  /// Makes an error. Text that comes from the file should pass ``printable(_:)`` first.
  public init(kind: Kind, file: String, field: String, expected: String, found: String) {
    self.kind = kind
    self.file = file
    self.field = field
    self.expected = expected
    self.found = found
  }

  /// The error as a sentence for a person, without a line break.
  public var description: String {
    let place = field.isEmpty ? file : "\(file): \(field)"
    return "\(place): expected \(expected), found \(found)"
  }

  /// Text of unknown origin made fit for a one-line message: control characters as `\u{…}`, cut after 80 characters.
  public static func printable(_ text: some StringProtocol) -> String {
    var result = ""
    var length = 0
    for scalar in text.unicodeScalars {
      if length == 80 {
        result += "…"
        break
      }
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse:
        result += scalar.escaped(asASCII: true)
      default:
        result.unicodeScalars.append(scalar)
      }
      length += 1
    }
    return result
  }
}

extension FileError {
  package static func damaged(_ file: String, _ field: String, expected: String, found: String)
    -> FileError
  {
    FileError(kind: .damaged, file: file, field: field, expected: expected, found: found)
  }

  package static func unsupported(_ file: String, _ field: String, expected: String, found: String)
    -> FileError
  {
    FileError(kind: .unsupported, file: file, field: field, expected: expected, found: found)
  }
}
