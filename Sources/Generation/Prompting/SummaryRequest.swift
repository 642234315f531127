/// How long a summary is to be.
public enum SummaryLength: Sendable, Equatable {
  /// At most so many sentences.
  case sentences(Int)
  /// About so many words.
  case words(Int)

  /// Lengths that can be asked for.
  public static let sentenceCounts = 1...100
  /// Numbers of words that can be asked for.
  public static let wordCounts = 1...5000

  /// - Throws: ``GenerationError/option(field:expected:found:)`` for a length that cannot be asked for.
  func validate() throws(GenerationError) {
    let (field, range, found) =
      switch self {
      case .sentences(let count): ("sentences", Self.sentenceCounts, count)
      case .words(let count): ("words", Self.wordCounts, count)
      }
    guard range.contains(found) else {
      throw .option(field: field, expected: "in \(range)", found: "\(found)")
    }
  }
}

/// What a summary is to be like.
public struct SummaryRequest: Sendable, Equatable {
  /// `nil` leaves it to the model: to what it was trained to, or to its default for texts of that kind.
  public var length: SummaryLength?
  /// What the summary is to be about, a question or a topic; `nil` for the whole document.
  public var focus: String?

  /// Puts a request together; without arguments, the whole document in the model's usual length.
  public init(length: SummaryLength? = nil, focus: String? = nil) {
    self.length = length
    self.focus = focus
  }
}
