/// A pair of models or a setting that cannot be used for speculative decoding.
public enum SpeculativeDecodingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An option lies outside its range. `field` is the option's name.
  case option(field: String, expected: String, found: String)
  /// Draft and target do not share a vocabulary. `field` is the first difference.
  case vocabulary(draft: String, target: String, field: String, draftValue: String, targetValue: String)
  /// The draft reads more bytes for a token than its target does.
  case draftLargerThanTarget(draft: String, target: String, draftBytes: Int, targetBytes: Int)
  /// The draft's context does not hold the prompt.
  case draftContext(draft: String, context: Int, prompt: Int)
  /// A draft head's file, or the description beside it, cannot be used.
  case draftHead(file: String, field: String, expected: String, found: String)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .option(let field, let expected, let found):
      "\(field) must be \(expected), but is \(found)"
    case .vocabulary(let draft, let target, let field, let draftValue, let targetValue):
      "the draft \(draft) and the target \(target) do not share a vocabulary: "
        + "\(field) is \(draftValue) in the draft and \(targetValue) in the target"
    case .draftLargerThanTarget(let draft, let target, let draftBytes, let targetBytes):
      "the draft \(draft) reads \(draftBytes) bytes of weights for a token, more than the \(targetBytes) of "
        + "the target \(target)"
    case .draftHead(let file, let field, let expected, let found):
      "\(file): \(field.isEmpty ? "" : field + ": ")expected \(expected), found \(found)"
    case .draftContext(let draft, let context, let prompt):
      "the prompt has \(prompt) tokens, but the context of the draft \(draft) holds \(context)"
    }
  }
}
