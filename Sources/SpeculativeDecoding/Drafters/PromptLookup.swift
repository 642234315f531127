import Transformers

/// Drafts what followed the last few tokens when they stood in the prompt or the output before
/// (prompt look-up decoding; Saxena, 2023). Summaries and answers copy much of their document.
///
/// The longest match wins, and of matches of one length the latest. A continuation that reaches the end of the text
/// goes on with itself. Each n-gram's latest place is kept in a hash index, so that a draft costs the same however long
/// the prompt is.
public final class PromptLookup: Drafter {
  /// Tokens of the longest match looked for.
  public static let longestMatch = 4

  /// It costs nothing; the evidence of a guess is the length of the match.
  public let profile = DrafterProfile(writer: .lookup, evidenceCount: longestMatch)

  /// Where the n-gram's continuation begins, by the n-gram's hash: one table for each n, n − 1 being its index.
  private var places: [[UInt64: Int]] = Array(repeating: [:], count: longestMatch)
  /// n-grams with a continuation before this place are in the index.
  private var indexed = 1

  /// What stood before all of the output, and the output.
  private var text: [TokenID]
  /// Tokens of the history that are in the text.
  private var taken = 0
  private let sourceCount: Int

  /// - Parameter source: What an encoder has read, for a decoder whose history is its output alone.
  public init(source: [TokenID] = []) {
    text = source
    sourceCount = source.count
  }

  /// The continuation of the longest match; the model is not asked.
  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) -> Draft {
    draft(after: history, limit: limit)
  }

  /// - Complexity: O(limit), and O(1) for each token that is new in `history`.
  public func draft(after tokens: [TokenID], limit: Int) -> Draft {
    text += tokens[min(taken, tokens.count)...]
    taken = tokens.count
    return draft(limit)
  }

  private func draft(_ limit: Int) -> Draft {
    let history = text
    while indexed < history.count {
      for length in 1...min(Self.longestMatch, indexed) {
        places[length - 1][Self.hash(history[indexed - length..<indexed])] = indexed
      }
      indexed += 1
    }
    guard limit > 0, !history.isEmpty else { return Draft() }
    for length in stride(from: min(Self.longestMatch, history.count - 1), through: 1, by: -1) {
      let tail = history[(history.count - length)...]
      // Two n-grams may share a hash, so the tokens are compared as well.
      guard let place = places[length - 1][Self.hash(tail)], place >= length,
        history[place - length..<place].elementsEqual(tail)
      else { continue }
      let period = history.count - place
      return Draft(tokens: (0..<limit).map { history[place + $0 % period] }, evidence: length - 1)
    }
    return Draft()
  }

  /// What was indexed may not stand in the text any more, so the index is made anew.
  public func crop(to count: Int) {
    text.removeSubrange(min(sourceCount + count, text.count)...)
    taken = min(taken, count)
    guard text.count < indexed else { return }
    for index in places.indices { places[index].removeAll(keepingCapacity: true) }
    indexed = 1
  }

  private static func hash(_ tokens: ArraySlice<TokenID>) -> UInt64 {
    var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
    for token in tokens {
      hash = (hash ^ UInt64(truncatingIfNeeded: token)) &* 0xff51_afd7_ed55_8ccd
      hash ^= hash >> 32
    }
    return hash
  }
}
