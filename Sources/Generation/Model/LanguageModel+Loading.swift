import ChatTemplates
import Checkpoints
import FileFormats
import Tokenization
import Transformers

extension LanguageModel {
  /// Opens a model: a `.gguf` file, or a Hugging Face directory with `config.json`, safetensors and a tokenizer
  /// (`tokenizer.json`, `tokenizer.model` or `spiece.model`).
  ///
  /// - Parameters:
  ///   - path: The file or directory.
  ///   - compute: Which form of the weights the arithmetic uses.
  ///   - cacheBits: Bits of keys and values, 16 or 8; `nil` for what is usual. See `Transformer`.
  ///   - threads: Threads to compute with, at least 1; `nil` for ``defaultThreadCount``.
  ///   - promptTemplate: How a conversation is written; `nil` to go by the checkpoint's own chat template.
  ///   - promptStyle: How documents are asked about; `nil` to go by the checkpoint, see ``PromptStyle``.
  ///   - adapter: A low-rank adapter to merge into the weights; see `LowRankAdapter`.
  ///   - packedCopy: A file to keep the packed weights in, so that they are not packed again; see `Transformer`.
  /// - Throws: `CheckpointError`, `TokenizerError`, `DecoderError` or ``GenerationError``, each naming file and field.
  public init(
    path: String, compute: ComputePath = .quantized, cacheBits: Int? = nil, threads: Int? = nil,
    promptTemplate: PromptTemplate? = nil, promptStyle: PromptStyle? = nil, adapter: String? = nil,
    packedCopy: String? = nil
  ) throws {
    var checkpoint = try Checkpoint.open(path)
    if let adapter { checkpoint = try checkpoint.merging(LowRankAdapter(path: adapter)) }
    try self.init(
      checkpoint: checkpoint, compute: compute, cacheBits: cacheBits, threads: threads,
      promptTemplate: promptTemplate, promptStyle: promptStyle, packedCopy: packedCopy)
  }

  /// Makes a model of a checkpoint that is open already.
  public init(
    checkpoint: Checkpoint, compute: ComputePath = .quantized, cacheBits: Int? = nil, threads: Int? = nil,
    promptTemplate: PromptTemplate? = nil, promptStyle: PromptStyle? = nil, packedCopy: String? = nil
  ) throws {
    let vocabulary = try TextFacts(checkpoint)
    let size = checkpoint.configuration.vocabularySize
    let decoder = try Transformer(
      checkpoint: checkpoint, compute: compute, cacheBits: cacheBits,
      threads: threads ?? Self.defaultThreadCount, packedCopy: packedCopy)
    self.init(
      name: checkpoint.configuration.name, decoder: decoder,
      // A few rows of padding at the end of the embedding are common. A token without a row is refused where a text
      // has it.
      tokenizer: PaddedTokenizer(vocabulary.tokenizer, rows: size),
      promptTemplate: promptTemplate ?? vocabulary.template, endTokens: vocabulary.endTokens,
      startToken: vocabulary.startToken, templateFound: vocabulary.templateFound,
      sourceEnd: vocabulary.sourceEnd, summaryPrefix: vocabulary.summaryPrefix ?? Self.usualSummaryPrefix,
      computePath: compute,
      promptStyle: promptStyle ?? vocabulary.namedStyle
        ?? (promptTemplate == nil ? vocabulary.promptStyle : .chat))
    answerability = vocabulary.answerability
    notes = checkpoint.notes + vocabulary.notes + decoder.notes
  }

  /// The processors that this process may use, but at most 8: reading weights from memory does not get faster with
  /// more.
  public static var defaultThreadCount: Int { Transformer.defaultThreadCount }
}

/// What a checkpoint says about text: its tokenizer, which tokens begin and end a text, and how to write a
/// conversation.
public struct TextFacts: Sendable {
  /// Turns text into tokens and back.
  public let tokenizer: any Tokenizer
  /// How a conversation is written; `nil` when the checkpoint does not say.
  public let template: PromptTemplate?
  /// Tokens that end an output.
  public let endTokens: Set<TokenID>
  /// The token that every text begins with; `nil` where there is none.
  public let startToken: TokenID?
  /// The token that ends a text for an encoder.
  let sourceEnd: TokenID?
  /// What a checkpoint says to write before a text that is to be summarised.
  let summaryPrefix: String?
  /// How the model wants to be asked about documents: as it says, or else by whether it has a chat template.
  public let promptStyle: PromptStyle
  /// What it says.
  let namedStyle: PromptStyle?
  /// What tells whether a document answers a question, where a GGUF file brings that along.
  public let answerability: AnswerabilityClassifier?
  /// What was found instead of a template that can be run.
  let templateFound: String
  /// What a reader should know of the files, a sentence each.
  public let notes: [String]

  /// Tokens that end a text in the models of these families, whether or not a file lists them: a chat model may end a
  /// turn with one and a text with another.
  private static let endNames = [
    "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "</s>", "<eos>",
    "<end_of_turn>",
  ]

  /// Reads the tokenizer and what goes with it; weights are not looked at.
  public init(_ checkpoint: Checkpoint) throws {
    var chatTemplate: String?
    var start: TokenID?
    var ends: Set<TokenID> = []
    var prefix: String?
    var names: [String: String] = [:]
    var notes: [String] = []
    var style: PromptStyle?
    switch checkpoint.kind {
    case .gguf:
      do {
        tokenizer = try Self.tokenizer(gguf: checkpoint)
      } catch let error as TokenizerError {
        throw GenerationError.tokenizerFile(checkpoint.path, error)
      }
      // The format has no key for it.
      prefix = checkpoint.metadata["egress.summary_prefix"]?.string
      style = try Self.promptStyle(gguf: checkpoint)
      chatTemplate = checkpoint.metadata["tokenizer.chat_template"]?.string
      for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        if let id = checkpoint.metadata["tokenizer.ggml.\(key)"]?.int { ends.insert(id) }
      }
      // Files with scores leave the flag out where the library's own default, a start token, holds.
      let addsStart =
        checkpoint.metadata["tokenizer.ggml.add_bos_token"]?.bool
        ?? (checkpoint.metadata["tokenizer.ggml.model"]?.string == "llama"
          || PreTokenizer.addsStartToken(ggufName: checkpoint.metadata["tokenizer.ggml.pre"]?.string))
      let tokens = checkpoint.metadata["tokenizer.ggml.tokens"]?.mappedStrings
      for name in ["bos", "eos", "unknown", "padding"] {
        if let id = checkpoint.metadata["tokenizer.ggml.\(name)_token_id"]?.int, let tokens,
          (0..<tokens.count).contains(id)
        {
          names[["unknown": "unk", "padding": "pad"][name, default: name] + "_token"] = tokens[id]
        }
      }
      if checkpoint.metadata["tokenizer.ggml.model"]?.string == "gpt2",
        checkpoint.metadata["tokenizer.ggml.pre"] == nil
      {
        notes.append(
          "\(checkpoint.path): tokenizer.ggml.pre is missing, so that words are cut by the usual rule of its family: "
            + "outputs may be worse than those of a file that names its own")
      }
      if addsStart {
        start = checkpoint.metadata["tokenizer.ggml.bos_token_id"]?.int
      }
    case .huggingFace:
      let directory = try HuggingFaceText(directory: checkpoint.path)
      let (found, ownStart) = try directory.makeTokenizer()
      tokenizer = found
      chatTemplate = directory.chatTemplate
      ends = Set(directory.endTokens)
      prefix = directory.summaryPrefix
      names = directory.tokenNames
      if directory.addsStartToken ?? false, let name = directory.startTokenName {
        start = tokenizer.id(ofSpecial: name)
      } else if directory.addsStartToken == nil {
        start = ownStart
      }
    }
    (template, templateFound) = Self.program(chatTemplate, names)
    for name in Self.endNames {
      if let id = tokenizer.id(ofSpecial: name), tokenizer.isControl(id) { ends.insert(id) }
    }
    summaryPrefix = prefix
    namedStyle = style
    answerability = try AnswerabilityClassifier(checkpoint)
    // An encoder reads no turns anyway.
    let isPretrained = chatTemplate == nil && checkpoint.configuration.encoder == nil
    promptStyle = style ?? (isPretrained ? .completion : .chat)
    // All of T5's texts end with the same token, the encoder's and the decoder's.
    sourceEnd = checkpoint.configuration.encoder == nil ? nil : tokenizer.id(ofSpecial: "</s>") ?? ends.min()
    let size = checkpoint.configuration.vocabularySize
    if let start, !(0..<size).contains(start) {
      throw GenerationError.modelFile(
        file: checkpoint.path, field: "start token", expected: "in 0..<\(size)", found: "\(start)")
    }
    // No output can end with a token that the model does not have.
    for id in ends.sorted() where !(0..<size).contains(id) {
      notes.append(
        "\(checkpoint.path): the end token \(id) is not among the \(size) of the model and is left out")
    }
    self.notes = notes
    endTokens = ends.filter { (0..<size).contains($0) }
    startToken = start
  }

  /// The checkpoint's template, or why there is none.
  private static func program(
    _ source: String?, _ tokens: [String: String]
  ) -> (template: PromptTemplate?, found: String) {
    guard let source else { return (nil, "it has none") }
    do throws(TemplateError) {
      return (.program(try PromptProgram(source: source, tokens: tokens)), "")
    } catch {
      return (nil, error.description)
    }
  }

  /// The name that files of a family have in `tokenizer.ggml.pre`, for one that was written before the key existed.
  private static func usualPreTokenizer(_ checkpoint: Checkpoint) -> String? {
    switch checkpoint.configuration.family {
    case .qwen2, .qwen3: return "qwen2"
    case .llama:
      // Llama 3 is the first of its family with a byte-level vocabulary; others of that architecture are not told
      // apart.
      let tokens = checkpoint.metadata["tokenizer.ggml.tokens"]?.mappedStrings
      return (tokens?.count ?? 0) >= 128_000 ? "llama-bpe" : nil
    default: return nil
    }
  }

  private static func promptStyle(gguf checkpoint: Checkpoint) throws -> PromptStyle? {
    guard let value = checkpoint.metadata[PromptStyle.metadataKey] else { return nil }
    guard let style = value.string.flatMap(PromptStyle.init(rawValue:)) else {
      throw GenerationError.modelFile(
        file: checkpoint.path, field: PromptStyle.metadataKey,
        expected: PromptStyle.allCases.map(\.rawValue).joined(separator: " or "),
        found: value.string.map { CheckpointError.printable($0) } ?? "no text")
    }
    return style
  }

  private static func tokenizer(gguf checkpoint: Checkpoint) throws -> any Tokenizer {
    func fault(_ field: String, _ expected: String, _ found: String) -> GenerationError {
      .modelFile(file: checkpoint.path, field: "tokenizer.ggml.\(field)", expected: expected, found: found)
    }
    func value(_ field: String) -> MetadataValue? { checkpoint.metadata["tokenizer.ggml.\(field)"] }
    func table(_ field: String) throws -> StringTable {
      guard let strings = value(field)?.mappedStrings else {
        throw fault(field, "an array of strings", "none")
      }
      var table = StringTable(reservingCount: strings.count)
      for index in 0..<strings.count { strings.withBytes(index) { table.append($0) } }
      return table
    }
    let kind = value("model")?.string
    switch kind {
    case "gpt2":
      return try ByteLevelBPE(
        tokens: table("tokens"), merges: table("merges"), tokenTypes: value("token_type")?.int32s,
        preTokenizer: PreTokenizer(ggufName: value("pre")?.string ?? usualPreTokenizer(checkpoint)),
        ignoresMerges: PreTokenizer.ignoresMerges(
          ggufName: value("pre")?.string ?? usualPreTokenizer(checkpoint)))
    case "llama"?, "t5"?:
      guard let scores = value("scores")?.floats else { throw fault("scores", "an array of F32", "none") }
      guard let types = value("token_type")?.int32s else {
        throw fault("token_type", "an array of 32-bit integers", "none")
      }
      return try SentencePieceTokenizer(
        tokens: table("tokens"), scores: scores, tokenTypes: types,
        unknownToken: value("unknown_token_id")?.int, model: kind ?? "",
        addsSpacePrefix: value("add_space_prefix")?.bool ?? true,
        removesExtraSpaces: value("remove_extra_whitespaces")?.bool ?? false,
        normalizationMap: (value("precompiled_charsmap")?.int32s ?? []).map { UInt8(truncatingIfNeeded: $0) })
    default:
      throw fault(
        "model", "gpt2 (byte-level), llama or t5 (SentencePiece)",
        kind.map { CheckpointError.printable($0) } ?? "nothing")
    }
  }
}
