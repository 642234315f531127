/// How a byte-level BPE tokenizer cuts text into words before it merges; merges never cross a cut.
///
/// Each case is the regular expression that the models of that name were trained with, written out as a scanner: one
/// pass, no backtracking, so the time is linear in the text.
public enum PreTokenizer: Sendable, Hashable, CaseIterable {
  /// GPT-2 (Radford et al. 2019):
  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
  case gpt2
  /// SmolLM: each number character is a word of its own, the text between them is cut as GPT-2 does.
  case smolLM
  /// Llama 3: contractions in any case, numbers in groups of three, line ends with the white space before them:
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
  /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
  case llama3
  /// Qwen 2: as Llama 3, with each number character apart (`\p{N}`).
  case qwen2

  /// The pre-tokenizer that a GGUF file names in `tokenizer.ggml.pre`.
  ///
  /// Names of other models that use one of the four expressions are accepted too. A file without a name, or with the
  /// name `default`, was written before the field existed; GPT-2's expression is what nearly all of those used.
  ///
  /// - Throws: ``TokenizerError/unsupported(field:found:)`` for any other name.
  public init(ggufName: String?) throws(TokenizerError) {
    switch ggufName ?? "default" {
    case "default", "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "granite-docling":
      self = .gpt2
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone":
      self = .smolLM
    case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "dbrx", "smaug-bpe":
      self = .llama3
    case "qwen2", "deepseek-r1-qwen", "stablelm2":
      self = .qwen2
    case let name:
      throw .unsupported(field: "tokenizer.ggml.pre", found: TokenizerError.excerpt(name.utf8))
    }
  }

  /// Names with which llama.cpp takes a word that is a token whole, and puts a start token before every text, where the
  /// file does not say.
  private static let namesOfLlama3: Set<String> = ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1"]

  /// Whether a word that is a token is taken whole, for a name in `tokenizer.ggml.pre`.
  public static func ignoresMerges(ggufName: String?) -> Bool {
    ggufName.map(namesOfLlama3.contains) ?? false
  }

  /// Whether a text begins with the start token where the file does not say, for a name in `tokenizer.ggml.pre`.
  public static func addsStartToken(ggufName: String?) -> Bool { ignoresMerges(ggufName: ggufName) }

  /// The lengths in bytes of the words of a text, in order; they add up to the length of the text.
  ///
  /// - Complexity: O(*n*) for *n* bytes.
  package func wordLengths(of utf8: [UInt8]) -> [Int] {
    utf8.withUnsafeBufferPointer { text in
      CharacterClass.table.withUnsafeBufferPointer { classes in
        let scanner = WordScanner(text: text, classes: classes, preTokenizer: self)
        var lengths: [Int] = []
        var start = 0
        while start < text.count {
          let end = scanner.endOfWord(at: start, limit: text.count)
          lengths.append(end - start)
          start = end
        }
        return lengths
      }
    }
  }
}
