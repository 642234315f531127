import EarlyExit
import Generation
import SpeculativeDecoding

/// Text coloured by who wrote it: green for drafts that were kept, cyan for what was looked up in the text, red for
/// what replaced a draft, with a mark for every token that was rolled back there.
struct WriterColors {
  private let isOn: Bool

  init(wanted: Bool) { isOn = wanted && Console.outputHasColor }

  func paint(_ text: String, source: TokenSource?) -> String {
    guard isOn, let source else { return text }
    func color(_ number: Int, _ text: String) -> String { "\u{1B}[\(number)m\(text)\u{1B}[0m" }
    switch source.writer {
    case .draft: return color(32, text)
    case .lookup: return color(36, text)
    case .target: return text
    case .corrected: return color(2, String(repeating: "↶", count: source.discarded)) + color(31, text)
    }
  }

  /// What the colours add up to.
  static func summary(_ statistics: SpeculationStatistics) -> String {
    let counts = TokenSource.Writer.allCases.compactMap { writer in
      statistics.tokensBySource[writer.rawValue].map { "\($0) \(writer.rawValue)" }
    }
    return "tokens: \(counts.joined(separator: ", ")); \(statistics.rollbacks) rollbacks in "
      + "\(statistics.steps) passes"
  }
}
