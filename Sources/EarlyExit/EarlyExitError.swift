/// Early exits that cannot be had as they were asked for.
public enum EarlyExitError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An option lies outside its range. `field` is the option's name.
  case option(field: String, expected: String, found: String)
  /// Exit heads that do not belong to the model, or a file of them that cannot be used.
  case exitHeads(String)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .option(let field, let expected, let found):
      "\(field) must be \(expected), but is \(found)"
    case .exitHeads(let what): what
    }
  }
}
