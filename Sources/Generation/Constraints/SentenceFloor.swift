import Transformers

/// How long an output is at least, in sentences or words: it does not end before, however much the model would like it
/// to.
///
/// A model that was trained on summaries of one sentence ends after one, whatever it is asked for. What it writes when
/// it has to go on is of the document too.
public struct SentenceFloor: Sendable {
  /// Whole sentences, or words.
  public let length: SummaryLength
  let table: TokenTable
  /// Tokens that no sentence after the first may begin with, in this order.
  let forbiddenOpening: [TokenID]

  /// Whether a text may end.
  func isReached(_ count: SentenceCount) -> Bool {
    switch length {
    case .sentences(let least): count.sentencesIfEnded >= least
    case .words(let least): count.wordsIfEnded >= least
    }
  }

  /// Whether it may end from now on, whatever follows.
  func isPassed(_ count: SentenceCount) -> Bool {
    switch length {
    case .sentences(let least): count.sentences >= least
    case .words(let least): count.words >= least
    }
  }
}

/// Counts the sentences of a text, and their words, as it arrives token by token.
struct SentenceCount {
  private let table: TokenTable
  /// Of the sentence at hand, the white space before it included.
  private var bytes: [UInt8] = []
  private var isBegun = false
  /// Sentences that another one follows.
  private(set) var sentences = 0
  /// Words in these.
  private(set) var words = 0
  /// Words of the sentence at hand.
  private var openWords = 0
  /// Whether the sentence at hand would be whole if nothing followed.
  private(set) var endsWhole = false

  init(_ table: TokenTable) {
    self.table = table
  }

  /// Sentences that there are if the text ends here.
  var sentencesIfEnded: Int { sentences + (endsWhole ? 1 : 0) }
  /// Words that there are if the text ends here.
  var wordsIfEnded: Int { words + openWords }

  /// - Complexity: O(length of the sentence)
  mutating func append(_ token: TokenID) {
    bytes += table.bytes(of: token, startsText: !isBegun)
    isBegun = true
    // The end of an incomplete character is a mark that ends no sentence.
    var sentence = String(decoding: bytes, as: UTF8.self)
    while case .found(let end, _) = SentenceBoundary.first(in: sentence[...], isComplete: false) {
      sentences += 1
      words += Self.wordCount(sentence[..<end])
      bytes.removeFirst(min(bytes.count, sentence.utf8.distance(from: sentence.startIndex, to: end)))
      sentence = String(sentence[end...])
    }
    endsWhole = SentenceBoundary.isWhole(sentence)
    openWords = Self.wordCount(sentence[...])
  }

  private static func wordCount(_ text: Substring) -> Int { text.split(whereSeparator: \.isWhitespace).count }
}
