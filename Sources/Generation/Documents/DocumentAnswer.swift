import RealModule

/// What an answer rests on.
public struct DocumentAnswer: Sendable, Equatable {
  /// Where an answer stands in a document.
  public struct Source: Sendable, Equatable, Codable {
    /// The first character of the answer in the document, from 0, and the one after its last: Unicode code points, as
    /// Python counts characters.
    public var start: Int
    /// The place after the answer's last character.
    public var end: Int
    /// The sentence that it stands in.
    public var sentence: String
    /// Where the sentence begins, counted in the same way.
    public var sentenceStart: Int
  }

  /// Whether the document answers the question, by what was written.
  public var answered: Bool
  /// How likely the answer is for the model; see ``Generation/confidence``. Where an ``AnswerabilityClassifier`` refused,
  /// how probable it is that there is no answer. `nil` where the probabilities of tokens were not recorded.
  public var confidence: Double?
  /// `nil` where there is no answer, or one in words that the document does not use.
  public var source: Source?

  /// Looks an answer up in its document.
  ///
  /// Capitals, white space and the kind of quotes and dashes make no difference, nor does a full stop after the answer;
  /// it has to stand there as whole words. Where it does so more than once, the sentence that shares most with the
  /// question counts, and the first of equal ones.
  ///
  /// - Complexity: O(n) for a document of n characters and usual answers.
  public init(_ generation: Generation, document: String, question: String) {
    let text = generation.text.trimmingWhitespace()
    // Where a classifier has decided, no answer begins as a refusal does: what does, and is cut, was one.
    let isCut =
      generation.answerability != nil && generation.stopReason == .maxTokens
      && PromptStyle.refusal.hasPrefix(text)
    let answered = !text.isEmpty && !Self.isRefusal(text) && !isCut
    self.answered = answered
    confidence = generation.confidence.map { own in
      generation.answerability.map { answered ? own : 1 - $0 } ?? own
    }
    source = answered ? Self.source(of: text, in: document, question: question) : nil
  }

  /// Whether a text says that there is no answer, in ``PromptStyle/refusal``'s words.
  static func isRefusal(_ text: String) -> Bool {
    let words = PlainText(text).characters
    return words.starts(with: PlainText(PromptStyle.refusal.dropLast()).characters)
  }

  private static func source(of answer: String, in document: String, question: String) -> Source? {
    let plain = PlainText(document)
    var found: [Range<Int>] = []
    for words in spellings(of: answer) where found.isEmpty { found = plain.occurrences(of: words) }
    guard !found.isEmpty else { return nil }
    let sentences = SentenceBoundary.ranges(in: document[...])
    // Indices of a string as numbers of scalars, in one pass.
    var starts: [Int] = []
    var (index, place) = (document.startIndex, 0)
    for sentence in sentences {
      place += document.unicodeScalars.distance(from: index, to: sentence.lowerBound)
      index = sentence.lowerBound
      starts.append(place)
    }
    let holders = found.map { range in
      max(0, (starts.firstIndex { $0 > range.lowerBound } ?? starts.count) - 1)
    }
    let ranks = PassageSelection.ranking(of: sentences.map { String(document[$0]) }, question: question)
    let best = ranks.first { holders.contains($0) }
    guard let best, let place = holders.firstIndex(of: best) else { return nil }
    return Source(
      start: found[place].lowerBound, end: found[place].upperBound,
      sentence: String(document[sentences[best]]),
      sentenceStart: starts[best])
  }

  /// The words to look for, the most faithful first: the answer; without the marks around it; without its article.
  private static func spellings(of answer: String) -> [ArraySlice<Unicode.Scalar>] {
    let whole = PlainText(answer).characters[...]
    let isMark: (Unicode.Scalar) -> Bool = { "\"'.,;:!?".unicodeScalars.contains($0) }
    let inner = whole.drop(while: isMark)
    let bare = inner.prefix(
      (inner.lastIndex { !isMark($0) }.map { $0 + 1 } ?? inner.startIndex) - inner.startIndex)
    var result = [whole, bare]
    for article in ["the ", "a ", "an "] where bare.starts(with: article.unicodeScalars) {
      result.append(bare.dropFirst(article.unicodeScalars.count))
    }
    return result.filter { $0.contains(where: \.isPartOfWord) }
  }
}

extension Generation {
  /// The probability that the model gave to its whole output, the end included: the product of its tokens'
  /// probabilities. `nil` unless they were recorded.
  public var confidence: Double? {
    logProbabilities.isEmpty ? nil : min(1, Double.exp(logProbabilities.reduce(0, +)))
  }
}
