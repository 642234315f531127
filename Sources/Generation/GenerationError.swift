import Tokenization

/// A request for text that cannot be carried out.
public enum GenerationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An option lies outside its range. `field` is the option's name.
  case option(field: String, expected: String, found: String)
  /// The prompt, and room for one token after it, do not fit the context.
  case promptTooLong(tokens: Int, context: Int)
  /// A text for the encoder of an encoder–decoder that is longer than it takes.
  case sourceTooLong(tokens: Int, limit: Int)
  /// Something that only a decoder that stands alone can do.
  case notForEncoderDecoders(String)
  /// A text that must not be empty is.
  case emptyText(field: String)
  /// Too few tokens to give a log-probability.
  case tooFewTokens(found: Int)
  /// A chat template of the checkpoint is of a kind that is not known, or there is none.
  case unknownPromptTemplate(model: String, found: String)
  /// The prompt template needs a special token that the vocabulary does not have.
  case missingSpecialToken(model: String, template: String, token: String)
  /// A file that belongs to the model cannot be used.
  case modelFile(file: String, field: String, expected: String, found: String)
  /// A tokenizer cannot be made from the file of this name.
  case tokenizerFile(String, TokenizerError)
  /// A JSON Schema that outputs cannot be held to; `place` is empty where it is about the whole.
  case schema(place: String, problem: String)
  /// A guard that cannot be fitted or used, or does not belong to the model.
  case applicability(String)

  /// A file of keys and values that cannot be used.
  case promptCache(file: String, problem: String)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .option(let field, let expected, let found):
      "\(field) must be \(expected), but is \(found)"
    case .promptTooLong(let tokens, let context):
      "the prompt has \(tokens) tokens and the context holds \(context), its output included"
    case .sourceTooLong(let tokens, let limit):
      "the text has \(tokens) tokens, and the encoder takes at most \(limit)"
    case .notForEncoderDecoders(let what):
      "\(what) is for decoders that stand alone; an encoder-decoder has no probability for a text without a source"
    case .emptyText(let field):
      "the \(field) is empty"
    case .tooFewTokens(let found):
      "a log-probability needs at least 2 tokens, but the text has \(found)"
    case .unknownPromptTemplate(let model, let found):
      "\(model): its prompt template is not one that is known (\(found)); generate, summarize and answer leave it out "
        + "with --raw, and documents are asked about without it with --prompts completion"
    case .missingSpecialToken(let model, let template, let token):
      "\(model): the prompt template \(template) needs the special token \(token), which the vocabulary lacks"
    case .tokenizerFile(let file, let error): "\(file): \(error)"
    case .applicability(let what): what
    case .promptCache(let file, let problem):
      "\(file) cannot be used for this prompt: \(problem); remove it, or name another file"
    case .schema(let place, let problem):
      "the JSON Schema cannot be used: " + (place.isEmpty ? problem : "\(place): \(problem)")
    case .modelFile(let file, let field, let expected, let found):
      "\(file): \(field): expected \(expected), found \(found)"
    }
  }
}
