import Generation
import TestSupport
import Testing
import Transformers

@Suite struct DocumentAnswerTests {
  private let document =
    "\n The mill of 1,926 stones closed in 1926, when a roller mill\nopened.  Dr. Lee’s mill — “the old "
    + "one” — closed in 1803. Äpfel kosten 1.5 Mark. The clock is set by the moon.\n"

  private func answer(_ text: String, question: String = "") -> DocumentAnswer {
    DocumentAnswer(
      Generation(text: text, tokenIDs: [], promptTokenIDs: [], stopReason: .endOfText), document: document,
      question: question)
  }

  /// What stands at the source's place, by code points.
  private func text(_ source: DocumentAnswer.Source) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: Array(document.unicodeScalars)[source.start..<source.end])
    return String(view)
  }

  @Test(arguments: [
    ("1926", "1926", "The mill of"),
    (" The MILL of 1,926 stones.", "The mill of 1,926 stones", "The mill of"),
    ("a roller mill opened", "a roller mill\nopened", "The mill of"), ("Dr. Lee's", "Dr. Lee’s", "Dr. Lee"),
    ("\"the old one\"", "“the old one”", "Dr. Lee"), ("äpfel", "Äpfel", "Äpfel kosten"),
    ("1.5 mark!", "1.5 Mark", "Äpfel"),
    ("A moon", "moon", "The clock"), ("1803.", "1803.", "Dr. Lee"),
  ])
  func `an answer is found in its document`(_ text: String, _ found: String, _ sentence: String) throws {
    let answer = answer(text)
    let source = try #require(answer.source)
    #expect(answer.answered && self.text(source) == found && source.sentence.hasPrefix(sentence))
    let start = Array(document.unicodeScalars)[source.sentenceStart...].prefix(3)
    #expect(start.elementsEqual(source.sentence.unicodeScalars.prefix(3)))
  }

  @Test(arguments: ["92", "926", "5 Mark", "mills", "closed in 1999", "?"])
  func `what does not stand in it as words has no source`(_ text: String) {
    let answer = answer(text)
    #expect(answer.answered && answer.source == nil)
  }

  @Test func `of several places the one nearest to the question counts`() throws {
    #expect(try #require(answer("closed").source).sentence.hasPrefix("The mill"))
    let source = try #require(answer("closed", question: "What did Dr. Lee's do in 1803?").source)
    #expect(source.sentence.hasPrefix("Dr. Lee"))
  }

  @Test(arguments: [
    "The text does not say.", "the text does not say", "The text  does not say. Ask Tom.", " ", "",
  ])
  func `a refusal is no answer`(_ text: String) {
    #expect(!answer(text).answered && answer(text).source == nil)
  }

  @Test func `confidence is the product of the tokens' probabilities`() throws {
    // Two tokens: a letter at 10 against 319 others at 0, then the end at the same.
    let model = LanguageModel.saying("a", after: 1)
    var options = GenerationOptions()
    options.recordsProbabilities = true
    let session = try model.makeSession(prompt: [112], options: options)
    while try session.next() != nil {}
    let one = 22_026.465794806718 / (22_026.465794806718 + 319)
    let confidence = try #require(session.generation.confidence)
    #expect(abs(confidence - one * one) < 1e-6)
    let batch = try #require(try BatchDecoder(model: model).run(prompts: [[112]], options: options))
    #expect(batch[0].confidence == confidence)
    options.recordsProbabilities = false
    let plain = try model.makeSession(prompt: [112], options: options)
    while try plain.next() != nil {}
    #expect(plain.generation.confidence == nil)
  }
}
