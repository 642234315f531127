import Transformers

/// How many sentences an output has at least: it does not end before, however much the model would like it to.
///
/// A model that was trained on summaries of one sentence ends after one, whatever it is asked for. What it writes when
/// it has to go on is of the document too; the sentence after that often is not, so the count is small and comes from
/// the request.
public struct SentenceFloor: Sendable {
  /// Sentences, at least 1.
  public let count: Int
  let table: TokenTable
  /// Tokens that no sentence after the first may begin with, in this order.
  let forbiddenOpening: [TokenID]
}

/// Counts the sentences of a text that arrives token by token.
struct SentenceCount {
  private let table: TokenTable
  /// Of the sentence at hand, the white space before it included.
  private var bytes: [UInt8] = []
  private var isBegun = false
  /// Sentences that another one follows.
  private(set) var followed = 0
  /// Whether the sentence at hand would be whole if nothing followed.
  private(set) var endsWhole = false

  init(_ table: TokenTable) {
    self.table = table
  }

  /// Sentences that there are if the text ends here.
  var ifEnded: Int { followed + (endsWhole ? 1 : 0) }

  /// - Complexity: O(length of the sentence)
  mutating func append(_ token: TokenID) {
    bytes += table.bytes(of: token, startsText: !isBegun)
    isBegun = true
    // The end of an incomplete character is a mark that ends no sentence.
    var sentence = String(decoding: bytes, as: UTF8.self)
    while case .found(let end, _) = SentenceBoundary.first(in: sentence[...], isComplete: false) {
      followed += 1
      bytes.removeFirst(min(bytes.count, sentence.utf8.distance(from: sentence.startIndex, to: end)))
      sentence = String(sentence[end...])
    }
    endsWhole = SentenceBoundary.isWhole(sentence)
  }
}
