import Foundation
import Generation
import Testing

@Suite("Which sentences of a document are read")
struct PassageSelectionTests {
  private let article = """
    The bridge at Orley was finished in 1904. Its iron came from the works at Brandt.
    Nobody lives there now. The ferry stopped in the same year. Cattle crossed on Sundays.
    """

  @Test("A question whose words tell where its answer stands is put to the three nearest sentences")
  func nearestSentences() {
    #expect(
      PassageSelection.evidence(in: article, for: "When was the bridge at Orley finished?")
        == "The bridge at Orley was finished in 1904. Its iron came from the works at Brandt. "
        + "The ferry stopped in the same year.")
    let second = PassageSelection.evidence(in: article, for: "Where did cattle go on Sundays?")
    #expect(second.contains("Cattle crossed on Sundays."))
    #expect(SentenceBoundary.ranges(in: second[...]).count == 3)
  }

  @Test(
    "A question whose words the document lacks is put to the whole of it",
    arguments: ["Who paid for the second tower's clock, and why?", "?", "Wozu diente sie?"])
  func foreignWords(question: String) {
    #expect(PassageSelection.evidence(in: article, for: question) == article)
  }

  @Test("Documents of three sentences and fewer stay as they are, line breaks included")
  func fewSentences() {
    let text = "The mill closed.\nIt was sold. It burnt."
    #expect(PassageSelection.evidence(in: text, for: "When was the mill closed?") == text)
  }

  /// 3 n + 3 sentences, of which every third is about the harbour, and the others about as many things.
  private func report(_ n: Int) -> String {
    (0...n).map { index in
      "The harbour council voted on the harbour wall in month \(index) of the year. "
        + "Somebody\(index) lost gloves\(index) near stairs\(index) "
        + "without thinking\(index) twice\(index) today\(index). "
        + "Otherwise\(index) rain\(index) fell\(index) slowly\(index) upon roofs\(index) everywhere\(index)."
    }.joined(separator: " ")
  }

  @Test("Of an article the sentences are read that hold most of what the others say, in its order")
  func gist() {
    let document = report(11)
    for (length, count) in [
      (SummaryLength?.none, 5), (.sentences(1), 5), (.sentences(3), 5), (.sentences(6), 8), (.words(40), 5),
      (.words(170), 12),
    ] {
      let gist = PassageSelection.gist(of: document, for: SummaryRequest(length: length))
      let sentences = SentenceBoundary.ranges(in: gist[...]).map { String(gist[$0]) }
      #expect(sentences.count == count)
      #expect(sentences.allSatisfy { $0.contains("harbour") })
      let places = sentences.map { document.range(of: $0)?.lowerBound ?? document.endIndex }
      #expect(places == places.sorted() && places.last.map { $0 < document.endIndex } == true)
    }
  }

  @Test("Short texts, conversations, few sentences and a focus leave the document whole")
  func whole() {
    let document = report(11)
    #expect(PassageSelection.gist(of: document, for: SummaryRequest(focus: "gloves")) == document)
    #expect(PassageSelection.gist(of: document, for: SummaryRequest(length: .sentences(17))) == document)
    let short = report(3)
    #expect(TextKind(of: short) == .short)
    #expect(PassageSelection.gist(of: short, for: SummaryRequest()) == short)
    let talk = (0..<40).map { "Ann: We met the harbour council again about wall number \($0) today." }
      .joined(separator: "\n")
    #expect(TextKind(of: talk) == .dialogue)
    #expect(PassageSelection.gist(of: talk, for: SummaryRequest()) == talk)
  }

  @Test("Readers are asked in this way, and other models with the whole document")
  func styles() {
    let question = "When was the bridge at Orley finished?"
    #expect(
      PromptStyle.reader.message(.answer(question: question), document: article)
        == "\(PassageSelection.evidence(in: article, for: question))\n\nQuestion: \(question)")
    #expect(PromptStyle.chat.message(.answer(question: question), document: article).contains(article))
    let document = report(11)
    #expect(
      PromptStyle.reader.message(.summary(SummaryRequest(length: .sentences(3))), document: document)
        == "\(PassageSelection.gist(of: document, for: SummaryRequest()))\n\nSummarize in 3 sentences.")
    #expect(PromptStyle.chat.message(.summary(SummaryRequest()), document: document).contains(document))
  }
}
