import Checkpoints
import Tokenization
import Transformers

/// A decoder with its tokenizer and the way it wants to be spoken to.
///
/// ```swift
/// let model = try LanguageModel(path: "SmolLM2-135M-Instruct.Q4_1.gguf")
/// for try await step in model.generate("Why is the sky blue?") {
///   print(step.text, terminator: "")
/// }
/// ```
///
/// It is immutable and may be shared between tasks; what changes while decoding lives in a ``DecodingSession``.
public struct LanguageModel: Sendable {
  /// What the model is called in messages.
  public let name: String
  /// What computes hidden states and logits.
  public private(set) var decoder: any DecoderModel
  /// How `decoder` computes.
  public let computePath: ComputePath
  /// Turns text into tokens and back.
  public let tokenizer: any Tokenizer
  /// How a conversation is written for this model; `nil` when that is not known.
  public let promptTemplate: PromptTemplate?
  /// How it wants to be asked about documents.
  public let promptStyle: PromptStyle
  /// What tells whether a document answers a question, where the model brings that along; `nil` leaves it to the words
  /// that the model begins with.
  public var answerability: AnswerabilityClassifier?
  /// Tokens that end an output.
  public let endTokens: Set<TokenID>
  /// The token that every text begins with, if the model was trained so.
  public let startToken: TokenID?
  /// The token that ends a text for an encoder.
  public let sourceEnd: TokenID?
  /// What an encoder–decoder wants to read before a text that it is to summarise, such as "summarize: ".
  public var summaryPrefix: String

  /// What a reader should know of the model's files, a sentence each.
  public internal(set) var notes: [String] = []
  let tokenTable = TokenTable.Lazy()
  let vocabularyTrie = VocabularyTrie.Lazy()

  /// Why there is no prompt template.
  let templateFound: String

  /// Puts a model together from its parts.
  public init(
    name: String, decoder: any DecoderModel, tokenizer: any Tokenizer, promptTemplate: PromptTemplate?,
    endTokens: Set<TokenID>, startToken: TokenID? = nil, sourceEnd: TokenID? = nil,
    promptStyle: PromptStyle = .chat
  ) {
    self.init(
      name: name, decoder: decoder, tokenizer: tokenizer, promptTemplate: promptTemplate,
      endTokens: endTokens, startToken: startToken, templateFound: "none is given", sourceEnd: sourceEnd,
      promptStyle: promptStyle)
  }

  /// The same model with another decoder, such as one that measures the first.
  package func decoding(with decoder: any DecoderModel) -> LanguageModel {
    var copy = self
    copy.decoder = decoder
    return copy
  }

  init(
    name: String, decoder: any DecoderModel, tokenizer: any Tokenizer, promptTemplate: PromptTemplate?,
    endTokens: Set<TokenID>, startToken: TokenID?, templateFound: String,
    sourceEnd: TokenID?, summaryPrefix: String = Self.usualSummaryPrefix,
    computePath: ComputePath = .quantized, promptStyle: PromptStyle = .chat
  ) {
    self.name = name
    self.decoder = decoder
    self.tokenizer = tokenizer
    self.promptTemplate = promptTemplate
    self.endTokens = endTokens
    self.startToken = startToken
    self.templateFound = templateFound
    self.sourceEnd = sourceEnd
    self.summaryPrefix = summaryPrefix
    self.computePath = computePath
    self.promptStyle = promptStyle
  }

  /// What an answer has to be that consists of a document's own words: its spans, and the words that refuse to answer.
  ///
  /// - Throws: The tokenizer's errors.
  /// - Complexity: O(n) for a document of n bytes, and O(size of the vocabulary) the first time.
  public func spans(of document: String) throws -> DocumentSpans {
    try DocumentSpans(
      document: document, table: tokenTable.table(tokenizer), tokenizer: tokenizer, endTokens: endTokens)
  }

  /// T5's own (Raffel et al., 2020, appendix D).
  public static let usualSummaryPrefix = "summarize: "

  /// Tokens that prompt and output may have together; those of either, for an encoder–decoder.
  public var contextLength: Int { decoder.configuration.contextLength }

  /// Bits of a number of keys and values: 8, 16 or 32.
  public var cacheBits: Int { (decoder as? Transformer)?.cacheBits ?? (computePath == .float32 ? 32 : 16) }

  /// What of the way it computes changes outputs, in the words of the command line: `quantized`, or
  /// `quantized --cache-bits 8`; and `, kernels 2` after it where outputs are not those of version 0.2.
  public var computeDescription: String {
    computePath.rawValue + (cacheBits == 8 ? " --cache-bits 8" : "")
      + ((decoder as? Transformer)?.differsFromFirstKernels == true ? Self.laterKernels : "")
  }

  /// What ``computeDescription`` says of models with weights that version 0.2 computed with otherwise, so that their
  /// outputs are told from those.
  package static let laterKernels = ", kernels 2"

  /// Bytes of weights that one token reads at full depth.
  public var bytesPerToken: Int {
    decoder.bytesPerLayer * decoder.configuration.layerCount + decoder.bytesOfUnembedding
  }

  /// Whether an encoder reads the prompt, so that it takes no room from the output.
  public var hasEncoder: Bool { decoder.configuration.encoder != nil }

  /// Tokens whose keys and values a sequence may keep.
  func cachedTokens(prompt: [TokenID], options: GenerationOptions) -> Int {
    hasEncoder
      ? prompt.count + min(options.maxTokens + 1, contextLength)
      : min(prompt.count + options.maxTokens, contextLength)
  }

  /// The tokens of a prompt of one user turn.
  ///
  /// - Throws: ``GenerationError/unknownPromptTemplate(model:found:)`` when the model's template is not known.
  public func prompt(user message: String) throws -> [TokenID] {
    try prompt(messages: [ChatMessage(role: "user", content: message)])
  }

  /// The tokens of a conversation, up to where the model's own turn begins.
  ///
  /// - Parameter messages: At least one. An encoder–decoder reads the last alone.
  /// - Throws: ``GenerationError/unknownPromptTemplate(model:found:)`` when the model's template is not known, and what
  ///   the template refuses.
  public func prompt(messages: [ChatMessage]) throws -> [TokenID] {
    try prompt(messages: messages, template: promptTemplate)
  }

  func prompt(messages: [ChatMessage], template: PromptTemplate?) throws -> [TokenID] {
    guard let last = messages.last else {
      throw GenerationError.option(field: "messages", expected: "at least one", found: "none")
    }
    // A template writes roles as its own words, special tokens among them.
    for message in messages where !message.role.utf8.allSatisfy(Self.isOfRole) {
      throw GenerationError.option(
        field: "messages", expected: "roles of letters, digits, - and _",
        found: "\"\(CheckpointError.printable(message.role))\"")
    }
    if hasEncoder { return try prompt(raw: last.content) }
    guard let template else {
      throw GenerationError.unknownPromptTemplate(model: name, found: templateFound)
    }
    return try template.encode(messages, tokenizer: tokenizer, start: startToken, model: name)
  }

  private static func isOfRole(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// The tokens of a text as it is, without a template.
  ///
  /// - Parameters:
  ///   - text: What the model is to continue.
  ///   - special: Whether text that spells a special token becomes that token.
  public func prompt(raw text: String, special: SpecialTokenHandling = .asText) throws -> [TokenID] {
    let tokens = try tokenizer.encode(text, special: special)
    if let sourceEnd, tokens.last != sourceEnd { return tokens + [sourceEnd] }
    guard let startToken, tokens.first != startToken else { return tokens }
    return [startToken] + tokens
  }
}
