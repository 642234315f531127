import Synchronization
import Tokenization
import Transformers

/// A set of tokens.
struct TokenMask: Sendable, Equatable {
  private var words: [UInt64]
  /// The fewest bytes to an end after whichever of them is farthest from it.
  fileprivate(set) var farthest = 0
  fileprivate(set) var isEmpty = true

  init(vocabularySize: Int) { words = [UInt64](repeating: 0, count: (vocabularySize + 63) / 64) }

  mutating func insert(_ token: TokenID) {
    words[token >> 6] |= 1 << UInt64(token & 63)
    isEmpty = false
  }

  func contains(_ token: TokenID) -> Bool {
    token >= 0 && token >> 6 < words.count && words[token >> 6] >> UInt64(token & 63) & 1 == 1
  }
}

/// A vocabulary in the order of its tokens' bytes, so that what tokens begin with alike is read once.
final class VocabularyTrie: Sendable {
  let table: TokenTable
  let vocabularySize: Int
  /// Tokens that are text, in the order of their bytes.
  private let order: [Int32]
  /// Bytes that each has in common with the one before it.
  private let common: [Int32]
  private let longest: Int
  private let singles: [TokenID]

  /// - Complexity: O(n log n) for a vocabulary of n tokens.
  init(_ table: TokenTable, vocabularySize: Int) {
    self.table = table
    self.vocabularySize = vocabularySize
    let texts = (0..<vocabularySize).map { Array(table.bytes(of: $0, startsText: false)) }
    let sorted = texts.indices.filter { !texts[$0].isEmpty }.sorted {
      texts[$0] == texts[$1] ? $0 < $1 : texts[$0].lexicographicallyPrecedes(texts[$1])
    }
    order = sorted.map { Int32($0) }
    common = sorted.indices.map { place in
      guard place > 0 else { return 0 }
      return Int32(zip(texts[sorted[place - 1]], texts[sorted[place]]).prefix { $0 == $1 }.count)
    }
    longest = texts.map(\.count).max() ?? 0
    singles = sorted.filter { texts[$0].count == 1 }
  }

  /// Steps of the automaton that are looked at for one mask, each as many as its state has stacks. A grammar that is
  /// not made to cost time takes a tenth of it; of one that is, tokens of several bytes are left out.
  private static let workLimit = 4_000_000

  /// The tokens that may come in a state, those that end outputs apart.
  ///
  /// - Parameters:
  ///   - distanceLimit: The most bytes that an end may be away after one.
  ///   - startsText: Whether the token is the first of a text.
  /// - Complexity: O(bytes of the vocabulary), and less where few tokens may come.
  func mask(
    _ automaton: inout GrammarAutomaton, _ state: GrammarAutomaton.State, distanceLimit: Int, startsText: Bool
  ) -> TokenMask {
    var mask = TokenMask(vocabularySize: vocabularySize)
    func take(_ token: TokenID, _ state: GrammarAutomaton.State, _ automaton: borrowing GrammarAutomaton) {
      let distance = automaton.distance(state)
      guard distance <= distanceLimit else { return }
      mask.insert(token)
      mask.farthest = max(mask.farthest, distance)
    }
    if startsText {
      for token in order.map({ Int($0) }) {
        var next: GrammarAutomaton.State? = state
        for byte in table.bytes(of: token, startsText: true) {
          next = next.flatMap { automaton.step($0, byte) }
          if next == nil { break }
        }
        let isText = !table.bytes(of: token, startsText: true).isEmpty
        if isText, let next { take(token, next, automaton) }
      }
      return mask
    }
    for token in singles {
      for byte in table.bytes(of: token, startsText: false) {
        if let next = automaton.step(state, byte) { take(token, next, automaton) }
      }
    }
    // States after each of the bytes that the last token walked could have.
    var path = [GrammarAutomaton.State](repeating: state, count: longest + 1)
    var alive = 0
    var work = 0
    for (place, token) in order.enumerated() {
      var depth = Int(common[place])
      guard depth <= alive else { continue }
      let bytes = table.bytes(of: Int(token), startsText: false)
      while depth < bytes.count {
        work += automaton.width(path[depth])
        guard let next = automaton.step(path[depth], bytes[bytes.startIndex + depth]) else { break }
        depth += 1
        path[depth] = next
      }
      alive = depth
      if depth == bytes.count { take(Int(token), path[depth], automaton) }
      if work > Self.workLimit { break }
    }
    return mask
  }

  /// One that is made when it is first asked for.
  final class Lazy: Sendable {
    private let trie = Mutex<VocabularyTrie?>(nil)

    func trie(_ make: () throws -> VocabularyTrie) throws -> VocabularyTrie {
      try trie.withLock { trie in
        if let trie { return trie }
        let made = try make()
        trie = made
        return made
      }
    }
  }
}
