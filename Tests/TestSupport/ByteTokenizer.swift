import Generation
import Tokenization
import Transformers

/// A token a byte, and three special tokens after them: what a text becomes can be seen at a glance.
package struct ByteTokenizer: Tokenizer {
  package static let specials = ["<|im_start|>", "<|im_end|>", "<|eot|>"]
  package var vocabularySize: Int { 320 }

  package init() {}

  package func encode(_ utf8: [UInt8], special: SpecialTokenHandling) throws(TokenizerError) -> [Int] {
    guard special == .recognize else { return utf8.map(Int.init) }
    var tokens: [Int] = []
    var rest = utf8[...]
    while let first = rest.first {
      if let index = Self.specials.firstIndex(where: { rest.starts(with: $0.utf8) }) {
        tokens.append(256 + index)
        rest = rest.dropFirst(Self.specials[index].utf8.count)
      } else {
        tokens.append(Int(first))
        rest = rest.dropFirst()
      }
    }
    return tokens
  }

  package func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    Self.specials.firstIndex { text[position...].starts(with: $0.utf8) }
      .map { (256 + $0, Self.specials[$0].utf8.count) }
  }

  package func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    startsText = false
    return switch token {
    case 0..<256: [UInt8(token)]
    case 256..<259: Array(Self.specials[token - 256].utf8)
    case 259..<320: []
    default: throw TokenizerError.tokenOutOfRange(token: token, vocabularySize: 320)
    }
  }

  package func isControl(_ token: Int) -> Bool { (256..<259).contains(token) }
  package func id(ofSpecial name: String) -> Int? { Self.specials.firstIndex(of: name).map { 256 + $0 } }
}

extension LanguageModel {
  /// A model of bytes around a scripted decoder. Token 258 ends an output.
  package static func scripted(
    _ decoder: ScriptedModel, template: PromptTemplate? = .plain, start: TokenID? = nil
  ) -> LanguageModel {
    LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: template,
      endTokens: [258],
      startToken: start)
  }

  /// A model that says a text after a prompt of so many tokens, then ends.
  package static func saying(_ text: String, after promptCount: Int) -> LanguageModel {
    scripted(ScriptedModel(saying: text.utf8.map(Int.init), after: promptCount, end: 258))
  }

  /// A model whose next token is a hash of all before it: outputs differ as soon as anything before them does.
  package static func hashing(contextLength: Int = 4096) -> (LanguageModel, ScriptedModel) {
    let decoder = ScriptedModel(contextLength: contextLength) { history, _ in
      var hash: UInt32 = 2_166_136_261
      for token in history { hash = (hash ^ UInt32(token)) &* 16_777_619 }
      // Letters, and now and then an end.
      let choice = Int(hash >> 8) % 40
      var logits = ScriptedModel.logits(favouring: choice < 39 ? 97 + choice % 26 : 258)
      logits[98] += 2
      return logits
    }
    return (scripted(decoder), decoder)
  }
}
