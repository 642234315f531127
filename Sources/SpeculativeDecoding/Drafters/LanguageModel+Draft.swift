import EarlyExit
import Generation
import Transformers

extension LanguageModel {
  /// Checks that `draft` may draft for this model: the same tokens with the same numbers, and fewer bytes to read.
  ///
  /// - Complexity: O(size of the vocabulary).
  /// - Throws: ``SpeculativeDecodingError`` naming both models and the first difference.
  public func checkDraft(_ draft: LanguageModel) throws(SpeculativeDecodingError) {
    func difference(_ field: String, _ a: String, _ b: String) -> SpeculativeDecodingError {
      .vocabulary(draft: draft.name, target: name, field: field, draftValue: a, targetValue: b)
    }
    guard draft.hasEncoder == hasEncoder else {
      let (a, b) = ("an encoder-decoder", "a decoder alone")
      throw difference("the kind of model", draft.hasEncoder ? a : b, hasEncoder ? a : b)
    }
    let size = tokenizer.vocabularySize
    guard draft.tokenizer.vocabularySize == size else {
      throw difference("the number of tokens", "\(draft.tokenizer.vocabularySize)", "\(size)")
    }
    for token in 0..<size {
      // A number without a token has no bytes; both must then have none.
      let theirs = try? draft.tokenizer.bytes(of: token)
      let ours = try? tokenizer.bytes(of: token)
      guard theirs == ours else { throw difference("token \(token)", Self.show(theirs), Self.show(ours)) }
      let (a, b) = (draft.tokenizer.isControl(token), tokenizer.isControl(token))
      guard a == b else {
        throw difference("token \(token)", a ? "a control token" : "text", b ? "a control token" : "text")
      }
    }
    guard draft.endTokens == endTokens else {
      throw difference("the set of end tokens", "\(draft.endTokens.sorted())", "\(endTokens.sorted())")
    }
    if let theirs = draft.startToken, let ours = startToken, theirs != ours {
      throw difference("the start token", "\(theirs)", "\(ours)")
    }
    let (a, b) = (draft.bytesPerToken, bytesPerToken)
    guard a <= b else {
      throw .draftLargerThanTarget(draft: draft.name, target: name, draftBytes: a, targetBytes: b)
    }
  }

  private static func show(_ bytes: [UInt8]?) -> String {
    bytes.map { String(decoding: $0, as: UTF8.self).debugDescription } ?? "nothing"
  }
}
