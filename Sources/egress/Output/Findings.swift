import Certification
import Generation

/// What can be told of an output about a document by looking at both.
struct Findings {
  let task: DocumentTask
  /// As it was given: places are counted in it.
  let document: String
  /// Whether they are shown beside the text, too.
  let cites: Bool

  /// What an answer rests on; `nil` for other outputs.
  func answer(_ generation: Generation) -> DocumentAnswer? {
    guard case .answer(let question) = task else { return nil }
    return DocumentAnswer(generation, document: document, question: question)
  }

  /// What supports the sentences of a summary; `nil` for other outputs.
  func sentences(_ generation: Generation) -> [SupportedSentence]? {
    guard case .summary = task else { return nil }
    return SummarySupport(document: document).check(generation.text)
  }

  /// Shows them after the text, where that was asked for.
  func write(_ generation: Generation) throws {
    guard cites else { return }
    for (index, sentence) in (sentences(generation) ?? []).enumerated() {
      var lines = "\n[\(index + 1)] \(Self.onOneLine(sentence.text))\n"
      lines +=
        "    \(sentence.sourceSentence.map { "from: " + Self.onOneLine($0) } ?? "from no sentence of the document")\n"
      if !sentence.unsupported.isEmpty {
        lines += "    not in the document: \(sentence.unsupported.joined(separator: "; "))\n"
      }
      try TextOutput.standard.write(lines)
    }
    guard let answer = answer(generation), answer.answered else { return }
    guard let source = answer.source else {
      return Console.note("the answer does not stand in the document")
    }
    try TextOutput.standard.write("\n" + Self.marked(source) + "\n")
  }

  private static func onOneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  /// A sentence on one line with the answer marked: underlined on a terminal that shows colours, else in double angle
  /// brackets.
  static func marked(_ source: DocumentAnswer.Source) -> String {
    let scalars = Array(source.sentence.unicodeScalars)
    let start = min(max(0, source.start - source.sentenceStart), scalars.count)
    // An answer may go on in the next sentence.
    let end = min(max(start, source.end - source.sentenceStart), scalars.count)
    func text(_ part: ArraySlice<Unicode.Scalar>) -> String {
      var view = String.UnicodeScalarView()
      view.append(contentsOf: part.map { $0.properties.isWhitespace ? " " : $0 })
      return String(view)
    }
    let (opening, closing) = Console.outputHasColor ? ("\u{1B}[1;4m", "\u{1B}[0m") : ("«", "»")
    return text(scalars[..<start]) + opening + text(scalars[start..<end]) + closing + text(scalars[end...])
  }
}
