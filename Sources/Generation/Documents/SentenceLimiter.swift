/// Ends a text that arrives in pieces at a length, between two sentences.
///
/// It ends before a sentence that says again what those before it say, and in one that says itself again.
///
/// The first sentence is shown as it comes; the others when they are whole, for until then they may be taken back.
package struct SentenceLimiter {
  /// The share of a budget of words by which a sentence may go past it and still be kept.
  static let tolerance = 0.2

  private let length: SummaryLength
  /// Of the sentence at hand, the white space before it included.
  private var sentence = ""
  /// Bytes of it that have been shown.
  private var shown = 0
  private var sentences = 0
  private var words = 0
  private var repetition = SentenceRepetition()

  package init(_ length: SummaryLength) {
    self.length = length
  }

  /// Takes the next piece; returns what can be shown, and whether the text ends there.
  package mutating func push(_ text: String) -> (visible: String, isLongEnough: Bool) {
    sentence += text
    var visible = ""
    while true {
      switch SentenceBoundary.first(in: sentence[...], isComplete: false) {
      case .found(let end, _):
        guard fits(sentence[..<end]), !repetition.isRepeated(sentence[..<end]) else { return (visible, true) }
        repetition.note(sentence[..<end])
        visible += unseen(to: end)
        sentences += 1
        words += Self.wordCount(sentence[..<end])
        sentence = String(sentence[end...])
        shown = 0
        if isFull { return (visible, true) }
      case .undecided(let end):
        return (visible + show(to: end), isOver)
      case .none:
        let end = sentence.lastIndex { !$0.isWhitespace }.map { sentence.index(after: $0) }
        return (visible + show(to: end ?? sentence.startIndex), isOver)
      }
    }
  }

  /// The rest, when no more text comes.
  ///
  /// - Parameter isCut: Whether the text was ended from outside, so that its last sentence may lack its end.
  package mutating func finish(isCut: Bool) -> String {
    defer { shown = sentence.utf8.count }
    if isCut, sentences > 0, !SentenceBoundary.isWhole(sentence) { return "" }
    if sentences > 0, repetition.isRepeated(sentence[...]) { return "" }
    return unseen(to: sentence.endIndex)
  }

  private var isFull: Bool {
    switch length {
    case .sentences(let limit): sentences >= limit
    case .words(let limit): words >= limit
    }
  }

  /// Whether a sentence, or the part of it that is there, may follow those before it.
  private func fits(_ sentence: Substring) -> Bool {
    guard sentences > 0, case .words(let limit) = length else { return true }
    return Double(words + Self.wordCount(sentence)) <= Double(limit) * (1 + Self.tolerance)
  }

  /// Whether the sentence at hand ends the text, whatever else it would say.
  private var isOver: Bool { !fits(sentence[...]) || SentenceRepetition.isLoop(sentence[...]) }

  private mutating func show(to end: String.Index) -> String {
    guard sentences == 0 else { return "" }
    defer { shown = max(shown, sentence.utf8.distance(from: sentence.startIndex, to: end)) }
    return unseen(to: end)
  }

  private func unseen(to end: String.Index) -> String {
    let start = sentence.utf8.index(sentence.startIndex, offsetBy: shown)
    return start < end ? String(sentence[start..<end]) : ""
  }

  private static func wordCount(_ text: Substring) -> Int { text.split(whereSeparator: \.isWhitespace).count }
}
