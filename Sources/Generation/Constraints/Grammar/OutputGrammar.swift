import Synchronization
import Transformers

/// What an output has to be, byte for byte: JSON that a schema describes. ``LanguageModel/grammar(jsonSchema:)`` makes
/// it.
///
/// Tokens that cannot go on to such an output do not come. Where the tokens that an output may have are enough for the
/// shortest one, every output is complete: its end comes before they are used up.
public final class OutputGrammar: Sendable {
  /// What is shared by the outputs of a request.
  private struct Shared {
    var automaton: GrammarAutomaton
    var masks: [GrammarAutomaton.State: TokenMask] = [:]
    /// How often states were forgotten, so that their numbers mean something else.
    var epoch = 0
  }

  /// States kept, about a kilobyte each.
  private static let stateLimit = 1 << 15
  /// Masks kept, an eighth of a byte for each token of the vocabulary.
  private static let maskLimit = 512

  private let shared: Mutex<Shared>
  private let trie: VocabularyTrie
  private let endTokens: Set<TokenID>
  /// Tokens that a shortlist has to have beside the prompt's, so that every output can be written.
  let neededTokens: [TokenID]

  init(_ grammar: ByteGrammar, trie: VocabularyTrie, endTokens: Set<TokenID>) {
    shared = Mutex(Shared(automaton: GrammarAutomaton(grammar)))
    self.trie = trie
    self.endTokens = endTokens
    neededTokens = Set(trie.table.singleBytes.values).union(endTokens).sorted()
  }

  /// How far an output has got.
  struct Position {
    private let grammar: OutputGrammar
    private var state = GrammarAutomaton.start
    private var epoch: Int
    private var stacks: [GrammarAutomaton.Stack]
    private var isFirst = true
    /// Tokens that may still come, that which ends the output included.
    private var left: Int
    /// Whether the output can be brought to its end with those.
    private let isBounded: Bool
    /// What may come next.
    private(set) var mask: TokenMask

    /// - Parameter limit: Tokens that the output may have.
    init(_ grammar: OutputGrammar, limit: Int) {
      self.grammar = grammar
      left = limit
      let begin = grammar.shared.withLock { shared in
        (
          shared.epoch, shared.automaton.stacks(GrammarAutomaton.start),
          shared.automaton.distance(GrammarAutomaton.start)
        )
      }
      (epoch, stacks) = (begin.0, begin.1)
      isBounded = begin.2 < limit
      mask = TokenMask(vocabularySize: grammar.trie.vocabularySize)
      look()
    }

    func allows(_ token: TokenID) -> Bool { mask.contains(token) }

    mutating func append(_ token: TokenID) {
      left -= 1
      guard !grammar.endTokens.contains(token) else { return }
      let bytes = grammar.trie.table.bytes(of: token, startsText: isFirst)
      isFirst = false
      let goesOn = grammar.shared.withLock { shared in
        recover(&shared)
        var state = state
        for byte in bytes {
          guard let next = shared.automaton.step(state, byte) else { return false }
          state = next
        }
        self.state = state
        stacks = shared.automaton.stacks(state)
        return true
      }
      if goesOn {
        look()
      } else {
        mask = TokenMask(vocabularySize: grammar.trie.vocabularySize)
      }
    }

    /// Finds the state's number again where states were forgotten, and forgets them where they are too many.
    private mutating func recover(_ shared: inout Shared) {
      if epoch != shared.epoch {
        state = shared.automaton.state(stacks)
        epoch = shared.epoch
      }
      guard shared.automaton.stateCount > OutputGrammar.stateLimit else { return }
      state = shared.automaton.reset(keeping: state)
      shared.masks = [:]
      shared.epoch += 1
      epoch = shared.epoch
    }

    /// Finds what may come next.
    private mutating func look() {
      mask = grammar.shared.withLock { shared in
        recover(&shared)
        var found: TokenMask
        if let known = shared.masks[state] {
          found = known
        } else {
          found = grammar.trie.mask(
            &shared.automaton, state, distanceLimit: ByteGrammar.infinity, startsText: isFirst)
          if shared.masks.count >= OutputGrammar.maskLimit { shared.masks = [:] }
          shared.masks[state] = found
        }
        // Each byte of the shortest way out is a token at most, and the end is one more.
        if isBounded, found.farthest > left - 2 {
          let near = grammar.trie.mask(
            &shared.automaton, state, distanceLimit: left - 2, startsText: isFirst)
          // A vocabulary without some single byte may not have the shortest way.
          if !near.isEmpty || shared.automaton.accepts(state) { found = near }
        }
        if shared.automaton.accepts(state) { for token in grammar.endTokens { found.insert(token) } }
        return found
      }
    }
  }
}

extension LanguageModel {
  /// What outputs have to be that are JSON.
  ///
  /// - Parameter schema: The bytes of a JSON Schema; `nil` for any object.
  /// - Throws: ``GenerationError/schema(place:problem:)`` for what is not a schema, for keywords that are not offered,
  ///   and where no finite value validates; the tokenizer's errors.
  /// - Complexity: O(size of the schema), and O(n log n) for a vocabulary of n tokens the first time.
  public func grammar(jsonSchema schema: [UInt8]? = nil) throws -> OutputGrammar {
    let parsed = try schema.map { bytes throws(GenerationError) in try OrderedJSONReader.read(bytes) }
    return try grammar(parsed: parsed)
  }

  /// As ``grammar(jsonSchema:)``, of a schema that was read.
  package func grammar(parsed schema: OrderedJSON?) throws -> OutputGrammar {
    var compiler = JSONSchemaCompiler(root: schema)
    let grammar = try compiler.compile()
    let trie = try vocabularyTrie.trie {
      VocabularyTrie(try tokenTable.table(tokenizer), vocabularySize: tokenizer.vocabularySize)
    }
    return OutputGrammar(grammar, trie: trie, endTokens: endTokens)
  }
}
