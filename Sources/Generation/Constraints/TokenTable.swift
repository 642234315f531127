import Synchronization
import Tokenization
import Transformers

/// The bytes of every token of a vocabulary.
final class TokenTable: Sendable {
  private let bytes: [UInt8]
  /// Where a token's bytes begin, and the next one's.
  private let starts: [Int]
  /// The bytes of tokens that are written in another way where they begin a text.
  private let beginnings: [TokenID: [UInt8]]

  /// - Throws: The tokenizer's errors.
  /// - Complexity: O(size of the vocabulary)
  init(_ tokenizer: any Tokenizer) throws {
    var bytes: [UInt8] = []
    var starts = [0]
    var beginnings: [TokenID: [UInt8]] = [:]
    for token in 0..<tokenizer.vocabularySize {
      // Markers are no text, whatever they are spelled like.
      if !tokenizer.isControl(token) {
        var startsText = false
        let within = try tokenizer.bytes(of: token, startsText: &startsText)
        startsText = true
        let first = try tokenizer.bytes(of: token, startsText: &startsText)
        bytes += within
        if first != within { beginnings[token] = first }
      }
      starts.append(bytes.count)
    }
    self.bytes = bytes
    self.starts = starts
    self.beginnings = beginnings
  }

  /// A token's bytes, none for one that is no text.
  func bytes(of token: TokenID, startsText: Bool) -> ArraySlice<UInt8> {
    guard starts.indices.dropLast().contains(token) else { return [] }
    if startsText, let first = beginnings[token] { return first[...] }
    return bytes[starts[token]..<starts[token + 1]]
  }

  /// Tokens of a single byte.
  var singleBytes: [UInt8: TokenID] {
    var result: [UInt8: TokenID] = [:]
    for token in starts.indices.dropLast() where starts[token + 1] == starts[token] + 1 {
      result[bytes[starts[token]]] = result[bytes[starts[token]]] ?? token
    }
    return result
  }

  /// One that is made when it is first asked for.
  final class Lazy: Sendable {
    private let table = Mutex<TokenTable?>(nil)

    func table(_ tokenizer: any Tokenizer) throws -> TokenTable {
      try table.withLock { table in
        if let table { return table }
        let made = try TokenTable(tokenizer)
        table = made
        return made
      }
    }
  }
}
