import Generation
import RiskControl
import Transformers

/// How likely tokens were, as OpenAI's protocol tells it. The token that ends an output is not told.
struct TokenProbabilities: Sendable {
  /// One token of an output, with the most probable ones in its place.
  struct Told: Sendable {
    var token: TokenID
    var logProbability: Double
    var alternatives: [TokenAlternative]
  }

  /// OpenAI's number for a token that could hardly come.
  static let least = -9999.0

  private let model: LanguageModel

  init(_ model: LanguageModel) { self.model = model }

  func told(_ step: TokenStep) -> Told? {
    guard let logProbability = step.logProbability, !model.endTokens.contains(step.id) else { return nil }
    return Told(
      token: step.id, logProbability: logProbability, alternatives: step.alternatives ?? [])
  }

  func told(_ generation: Generation) -> [Told] {
    zip(generation.tokenIDs, generation.logProbabilities).enumerated().compactMap { index, token in
      guard !model.endTokens.contains(token.0) else { return nil }
      let all = generation.alternatives
      return Told(
        token: token.0, logProbability: token.1, alternatives: all.indices.contains(index) ? all[index] : [])
    }
  }

  /// `logprobs` of a chat: `{content: [{token, logprob, bytes, top_logprobs}], refusal}`.
  func chat(_ tokens: [Told]) -> JSONValue {
    let content = tokens.map { told in
      var entry = entry(told.token, told.logProbability)
      entry["top_logprobs"] = .array(
        told.alternatives.map { .object(self.entry($0.token, $0.logProbability)) })
      return JSONValue.object(entry)
    }
    return .object(["content": .array(content), "refusal": .null])
  }

  private func entry(_ token: TokenID, _ logProbability: Double) -> [String: JSONValue] {
    let bytes = bytes(token)
    return [
      "token": .text(String(decoding: bytes, as: UTF8.self)), "logprob": Self.number(logProbability),
      "bytes": .array(bytes.map { .integer(Int($0)) }),
    ]
  }

  /// `logprobs` of a completion: `{tokens, token_logprobs, top_logprobs, text_offset}`.
  ///
  /// - Parameter offset: Characters of the output before these tokens, and after the call after them.
  func completion(_ tokens: [Told], offset: inout Int) -> JSONValue {
    var offsets: [JSONValue] = []
    for told in tokens {
      offsets.append(.integer(offset))
      // A character counts where it begins.
      offset += bytes(told.token).count { $0 & 0xC0 != 0x80 }
    }
    let top = tokens.map { told in
      var entries = Dictionary(
        told.alternatives.map { (name($0.token), Self.number($0.logProbability)) }
      ) { first, _ in first }
      entries[name(told.token)] = Self.number(told.logProbability)
      return JSONValue.object(entries)
    }
    return .object([
      "tokens": .array(tokens.map { .text(name($0.token)) }),
      "token_logprobs": .array(tokens.map { Self.number($0.logProbability) }),
      "top_logprobs": .array(top), "text_offset": .array(offsets),
    ])
  }

  private static func number(_ logProbability: Double) -> JSONValue {
    .number(logProbability.isFinite ? logProbability : least)
  }

  private func bytes(_ token: TokenID) -> [UInt8] { (try? model.tokenizer.bytes(of: token)) ?? [] }

  /// A token's text; one that is a part of a character by its bytes, as OpenAI has it: `bytes:\\xe2\\x80`.
  private func name(_ token: TokenID) -> String {
    let bytes = bytes(token)
    if let text = String(validating: bytes, as: UTF8.self) { return text }
    let digits = bytes.map { "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }
    return "bytes:" + digits.joined()
  }
}
