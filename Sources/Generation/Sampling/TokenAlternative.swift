import Transformers

/// A token that could have come, and how likely it was.
public struct TokenAlternative: Sendable, Equatable {
  /// The token.
  public var token: TokenID
  /// The natural logarithm of its probability, before penalties and filters.
  public var logProbability: Double

  /// The most probable tokens; of equal ones, those with the lower places first.
  ///
  /// - Complexity: O(n log count)
  static func best(
    _ count: Int, of logits: UnsafeBufferPointer<Float>, candidates: [TokenID]?
  ) -> [TokenAlternative] {
    guard count > 0 else { return [] }
    // Places in descending order of their logits; a vocabulary is long and this list short.
    var places: [Int] = []
    for place in logits.indices {
      if places.count == count, let last = places.last, logits[place] <= logits[last] { continue }
      var (low, high) = (0, places.count)
      while low < high {
        let middle = (low + high) / 2
        if logits[places[middle]] >= logits[place] { low = middle + 1 } else { high = middle }
      }
      places.insert(place, at: low)
      if places.count > count { places.removeLast() }
    }
    let sum = Logits.logSumExp(logits)
    return places.map {
      TokenAlternative(token: candidates?[$0] ?? $0, logProbability: Double(logits[$0]) - sum)
    }
  }
}
