import SpeculativeDecoding
import TestSupport
import Testing

struct PromptLookupTests {
  /// Looks through the whole text for the longest match, the latest of equal ones.
  private func search(_ history: [Int], limit: Int) -> Draft {
    for length in stride(from: min(4, history.count - 1), through: 1, by: -1) {
      let tail = history.suffix(length)
      for place in stride(from: history.count - 1, through: length, by: -1)
      where history[place - length..<place].elementsEqual(tail) {
        // The text as it would be if the continuation went on.
        var text = history
        while text.count < history.count + limit { text.append(text[place + text.count - history.count]) }
        return Draft(tokens: Array(text[history.count...]), evidence: length - 1)
      }
    }
    return Draft()
  }

  @Test("The index finds what a search through the whole text finds")
  func agreesWithSearch() {
    var random = SplitMix64(seed: 5)
    for alphabet in [2, 5, 30, 400] {
      let lookup = PromptLookup()
      var history: [Int] = []
      for _ in 0..<600 {
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          history.append(Int.random(in: 0..<alphabet, using: &random))
        }
        #expect(lookup.draft(after: history, limit: 6) == search(history, limit: 6))
      }
    }
  }

  @Test("After a crop the index is that of the shorter text")
  func crop() {
    var random = SplitMix64(seed: 6)
    let history = (0..<300).map { _ in Int.random(in: 0..<6, using: &random) }
    let lookup = PromptLookup()
    _ = lookup.draft(after: history, limit: 6)
    lookup.crop(to: 100)
    let other = history.prefix(100) + history.suffix(50).reversed()
    for count in 100...150 {
      #expect(
        lookup.draft(after: Array(other.prefix(count)), limit: 6)
          == search(Array(other.prefix(count)), limit: 6))
    }
  }

  @Test("An empty limit or text drafts nothing")
  func edges() {
    #expect(PromptLookup().draft(after: [], limit: 4) == Draft())
    #expect(PromptLookup().draft(after: [1], limit: 4) == Draft())
    #expect(PromptLookup().draft(after: [1, 1], limit: 0) == Draft())
    #expect(PromptLookup().draft(after: [1, 1], limit: 4) == Draft(tokens: [1, 1, 1, 1], evidence: 0))
  }
}
