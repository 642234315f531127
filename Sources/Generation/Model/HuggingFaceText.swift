import Checkpoints
import FileFormats
import Tokenization

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// The files of a Hugging Face directory that say how its model reads and writes text.
struct HuggingFaceText {
  private let directory: String
  private let config: Config
  private let generation: Config
  private let tokenizerConfig: TokenizerConfig
  /// A chat template in a file of its own, as newer directories have it.
  private let templateFile: String?

  /// `config.json` and `generation_config.json`, as far as text is concerned.
  private struct Config: Decodable {
    var endTokens: OneOrMore?
    var modelType: String?
    var tasks: [String: Task]?

    /// Of `task_specific_params`; other fields say how its authors decoded.
    struct Task: Decodable {
      var prefix: String?
    }
    enum CodingKeys: String, CodingKey {
      case endTokens = "eos_token_id"
      case modelType = "model_type"
      case tasks = "task_specific_params"
    }
  }

  private struct TokenizerConfig: Decodable {
    var addsStartToken: Bool?
    var startToken: NameOrToken?
    var endToken: NameOrToken?
    var unknownToken: NameOrToken?
    var paddingToken: NameOrToken?
    var chatTemplate: Templates?
    var tokenizerClass: String?
    var sentinelCount: Int?
    /// Added tokens by ID.
    var addedTokens: [String: NameOrToken]?
    enum CodingKeys: String, CodingKey {
      case tokenizerClass = "tokenizer_class"
      case sentinelCount = "extra_ids"
      case addedTokens = "added_tokens_decoder"
      case addsStartToken = "add_bos_token"
      case startToken = "bos_token"
      case endToken = "eos_token"
      case unknownToken = "unk_token"
      case paddingToken = "pad_token"
      case chatTemplate = "chat_template"
    }
  }

  private enum OneOrMore: Decodable {
    case one(Int)
    case more([Int])
    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      self =
        if let one = try? value.decode(Int.self) { .one(one) } else { .more(try value.decode([Int].self)) }
    }
    var ids: [Int] {
      switch self {
      case .one(let id): [id]
      case .more(let ids): ids
      }
    }
  }

  private struct NameOrToken: Decodable {
    var name: String
    enum CodingKeys: String, CodingKey { case content }
    init(from decoder: any Decoder) throws {
      if let name = try? decoder.singleValueContainer().decode(String.self) {
        self.name = name
      } else {
        name = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .content)
      }
    }
  }

  private struct Templates: Decodable {
    struct Named: Decodable {
      var name: String
      var template: String
    }
    var text: String?
    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if let text = try? value.decode(String.self) {
        self.text = text
      } else {
        let all = try value.decode([Named].self)
        text = (all.first { $0.name == "default" } ?? all.first)?.template
      }
    }
  }

  init(directory: String) throws {
    self.directory = directory
    config = try Self.read("config.json", in: directory) ?? Config()
    generation = try Self.read("generation_config.json", in: directory) ?? Config()
    tokenizerConfig = try Self.read("tokenizer_config.json", in: directory) ?? TokenizerConfig()
    templateFile = try Self.data("chat_template.jinja", in: directory).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  var summaryPrefix: String? { config.tasks?["summarization"]?.prefix }
  var chatTemplate: String? { templateFile ?? tokenizerConfig.chatTemplate?.text }
  var endTokens: [Int] { (generation.endTokens?.ids ?? []) + (config.endTokens?.ids ?? []) }
  /// Whether texts begin with the start token; `nil` where only the tokenizer's own file says.
  var addsStartToken: Bool? {
    // Both classes add one unless told not to.
    let addsByDefault = ["Llama", "Gemma"].contains {
      (tokenizerConfig.tokenizerClass ?? "").hasPrefix($0 + "Tokenizer")
    }
    return tokenizerConfig.addsStartToken ?? (addsByDefault ? true : nil)
  }
  /// What a chat template calls tokens, and their names.
  var tokenNames: [String: String] {
    [
      "bos_token": tokenizerConfig.startToken, "eos_token": tokenizerConfig.endToken,
      "unk_token": tokenizerConfig.unknownToken, "pad_token": tokenizerConfig.paddingToken,
    ].compactMapValues { $0?.name }
  }
  var startTokenName: String? { tokenizerConfig.startToken?.name }

  /// A SentencePiece model is preferred to `tokenizer.json`, which for such models is a conversion of it, unless that
  /// has tokens beside the model's.
  ///
  /// - Returns: The tokenizer, and the token that it puts in front of a text by itself, where it has one.
  func makeTokenizer() throws -> (tokenizer: any Tokenizer, startToken: Int?) {
    let json = try Self.data("tokenizer.json", in: directory)
    for name in ["spiece.model", "tokenizer.model"] {
      guard let model = try Self.data(name, in: directory) else { continue }
      // Some directories keep the ranks of a byte-level vocabulary under that name, beside its tokenizer.json.
      if json != nil, !SentencePieceTokenizer.isModel(model) { continue }
      let tokenizer = try naming(name) {
        try SentencePieceTokenizer(model: Array(model), sentinelCount: sentinelCount)
      }
      let lastAdded = (tokenizerConfig.addedTokens ?? [:]).keys.compactMap { Int($0) }.max() ?? -1
      if json == nil || lastAdded < tokenizer.vocabularySize { return (tokenizer, nil) }
    }
    guard let json else {
      throw GenerationError.modelFile(
        file: directory, field: "tokenizer", expected: "tokenizer.json, tokenizer.model or spiece.model",
        found: "none")
    }
    return try naming("tokenizer.json") { try makeHuggingFaceTokenizer(json: Array(json)) }
  }

  /// Errors of the tokenizer do not know the file.
  private func naming<Result>(_ name: String, _ make: () throws -> Result) throws -> Result {
    do {
      return try make()
    } catch let error as TokenizerError {
      throw GenerationError.tokenizerFile(directory + "/" + name, error)
    }
  }

  /// T5's sentinels come after the pieces of its model.
  private var sentinelCount: Int { tokenizerConfig.sentinelCount ?? (config.modelType == "t5" ? 100 : 0) }

  /// A file's bytes, or `nil` if there is none. No such file is larger than a few dozen MB.
  private static func data(_ name: String, in directory: String) throws -> Data? {
    let path = directory + "/" + name
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      return try Data(contentsOf: URL(filePath: path), options: .mappedIfSafe)
    } catch {
      throw GenerationError.modelFile(
        file: path, field: "file", expected: "to be readable", found: "\(error)")
    }
  }

  private static func read<Value: Decodable>(_ name: String, in directory: String) throws -> Value? {
    guard let data = try data(name, in: directory) else { return nil }
    do {
      return try JSONDecoder().decode(Value.self, from: PythonJSON.normalized(data))
    } catch let error as DecodingError {
      throw GenerationError.modelFile(
        file: directory + "/" + name, field: error.place, expected: "JSON as its library writes it",
        found: error.reason)
    }
  }
}

extension DecodingError {
  /// Where in the document the error lies.
  fileprivate var place: String {
    let path =
      switch self {
      case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
        .dataCorrupted(let context):
        context.codingPath
      @unknown default: [any CodingKey]()
      }
    return path.isEmpty ? "file" : path.map(\.stringValue).joined(separator: ".")
  }

  fileprivate var reason: String {
    switch self {
    case .typeMismatch(let type, _): "a value that is not \(type)"
    case .valueNotFound: "null"
    case .keyNotFound(let key, _): "no key \(key.stringValue)"
    case .dataCorrupted: "something that is not JSON"
    @unknown default: "something else"
    }
  }
}
