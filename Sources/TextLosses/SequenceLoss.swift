/// The loss of a generated text in [0, 1], against references or against the full model's own output.
///
/// The performance gap of a document is `loss(early, references) − loss(full, references)`, in [−1, 1]; its consistency
/// is `loss(early, [full])`.
public enum SequenceLoss: Sendable, Equatable {
  /// 1 − ROUGE F-measure, best of the references.
  case rouge(Rouge)
  /// 1 − SQuAD token F1, best of the references.
  case tokenF1
  /// 1 − SQuAD exact match, best of the references.
  case exactMatch
  /// 1 − smoothed sentence BLEU over all references.
  case bleu
  /// 1 − chrF, best of the references.
  case chrF
  /// Levenshtein distance over Unicode scalars divided by the longer length, least of the references.
  case editDistance
  /// Share of positions whose white-space-separated tokens differ, over the longer length; least of the references.
  case tokenDisagreement
  /// 1 where the output repeats four words three times, else 0; no references are read. See ``TextProperties``.
  case repetition
  /// Share of the output's names and numbers that its document lacks; no references are read. See ``TextProperties``.
  case unsupported

  /// All losses by name: `rouge-1`, `rouge-2`, `rouge-l`, `rouge-lsum`, each with `-stem`; `token-f1`, `exact-match`,
  /// `bleu`, `chrf`, `edit-distance`, `token-disagreement`, `repetition`, `unsupported`.
  public static let all: [SequenceLoss] =
    Rouge.Variant.allCases.flatMap { [.rouge(Rouge($0)), .rouge(Rouge($0, stemming: true))] }
    + [
      .tokenF1, .exactMatch, .bleu, .chrF, .editDistance, .tokenDisagreement, .repetition, .unsupported,
    ]

  /// The name by which commands and certificates call it.
  public var name: String {
    switch self {
    case .rouge(let rouge): rouge.variant.rawValue + (rouge.stemming ? "-stem" : "")
    case .tokenF1: "token-f1"
    case .exactMatch: "exact-match"
    case .bleu: "bleu"
    case .chrF: "chrf"
    case .editDistance: "edit-distance"
    case .tokenDisagreement: "token-disagreement"
    case .repetition: "repetition"
    case .unsupported: "unsupported"
    }
  }

  /// The loss of this name; nil where there is none.
  public init?(name: String) {
    guard let loss = Self.all.first(where: { $0.name == name }) else { return nil }
    self = loss
  }

  /// Whether the loss compares with references; if not, it is a property of the output.
  public var readsReferences: Bool { self != .repetition && self != .unsupported }

  /// The loss of a text, in [0, 1]; 1 where it compares with references and there is none.
  ///
  /// - Parameters:
  ///   - prediction: The text.
  ///   - references: What a good text may be; the best match counts.
  ///   - source: The document, which ``unsupported`` alone reads.
  public func loss(_ prediction: String, references: [String], source: String = "") -> Double {
    func best(_ score: (String) -> Double) -> Double { 1 - (references.map(score).max() ?? 0) }
    switch self {
    case .rouge(let rouge): return 1 - rouge.score(prediction, references: references)
    case .tokenF1: return best { AnswerMatch.tokenF1(prediction, reference: $0) }
    case .exactMatch: return best { AnswerMatch.exactMatch(prediction, reference: $0) }
    case .bleu: return max(0, 1 - Bleu.score(prediction, references: references))
    case .chrF: return 1 - ChrF.score(prediction, references: references)
    case .editDistance:
      let scalars = Array(prediction.unicodeScalars)
      return best { 1 - Self.editDistance(scalars, Array($0.unicodeScalars)) }
    case .tokenDisagreement:
      func tokens(_ text: String) -> [ScalarText] {
        text.unicodeScalars.split { $0.isSeparator }.map { ScalarText($0) }
      }
      let predicted = tokens(prediction)
      return best { 1 - Self.disagreement(predicted, tokens($0)) }
    case .repetition: return TextProperties.repeatsItself(prediction) ? 1 : 0
    case .unsupported: return TextProperties.unsupportedShare(prediction, source: source)
    }
  }

  /// Levenshtein distance divided by the longer length, in [0, 1]; 0 for two empty sequences. O(first · second).
  public static func editDistance<Token: Equatable>(_ first: [Token], _ second: [Token]) -> Double {
    let longest = max(first.count, second.count)
    guard longest > 0 else { return 0 }
    var row = Array(0...second.count)
    for (i, token) in first.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for j in second.indices {
        let replaced = diagonal + (token == second[j] ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
      }
    }
    return Double(row[second.count]) / Double(longest)
  }

  /// Share of positions at which two sequences differ, positions past the end of the shorter one included; 0 for two
  /// empty ones.
  public static func disagreement<Token: Equatable>(_ first: [Token], _ second: [Token]) -> Double {
    let longest = max(first.count, second.count)
    guard longest > 0 else { return 0 }
    let same = zip(first, second).count { $0 == $1 }
    return Double(longest - same) / Double(longest)
  }
}
