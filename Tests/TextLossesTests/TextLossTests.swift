import RiskControl
import TestSupport
import Testing
import TextLosses

/// Text losses against the public packages rouge-score and sacrebleu (Scripts/make_text_fixtures.py).
@Suite struct TextLossTests {
  struct Fixture: Decodable {
    struct Case: Decodable {
      var prediction: String
      var references: [String]
      var rouge: [Double]
      var rougeStem: [Double]
      var f1: Double
      var em: Double
      var bleu: Double
      var chrf: Double
      var edit: Double
    }
    var cases: [Case]
    var stems: [String: String]
  }

  @Test func `scores agree with the public packages`() throws {
    let cases = try FixtureFile.decode("text-losses.json", as: Fixture.self, in: .module).cases
    #expect(cases.count == 97)
    try check(cases)
  }

  @Test func `texts are compared by their scalars, as the public packages do`() throws {
    let cases = try FixtureFile.decode("text-scalars.json", as: Fixture.self, in: .module).cases
    #expect(cases.count == 22)
    try check(cases)
    // What Swift takes for equal, white space that Swift knows and Python does not, and the other way round.
    #expect("caf\u{E9}" == "cafe\u{301}")
    #expect(SequenceLoss.tokenDisagreement.loss("caf\u{E9} x", references: ["cafe\u{301} x"]) == 0.5)
    #expect(SequenceLoss.tokenDisagreement.loss("a\u{1C}b", references: ["a b"]) == 0)
  }

  private func check(_ cases: [Fixture.Case]) throws {
    for item in cases {
      func check(_ name: String, _ score: Double) throws {
        let loss = try #require(SequenceLoss(name: name)).loss(item.prediction, references: item.references)
        #expect(
          abs(loss - (1 - score)) < 1e-9,
          "\(name) of \(item.prediction.debugDescription): \(1 - loss), expected \(score)")
      }
      for (position, name) in ["rouge-1", "rouge-2", "rouge-l", "rouge-lsum"].enumerated() {
        try check(name, item.rouge[position])
        try check(name + "-stem", item.rougeStem[position])
      }
      try check("token-f1", item.f1)
      try check("exact-match", item.em)
      try check("bleu", item.bleu)
      try check("chrf", item.chrf)
      try check("edit-distance", 1 - item.edit)
    }
  }

  @Test func `stems agree with the reference stemmer`() throws {
    let stems = try FixtureFile.decode("text-losses.json", as: Fixture.self, in: .module).stems
    #expect(stems.count > 1000)
    for (word, stem) in stems { #expect(PorterStemmer.stem(word) == stem, "\(word)") }
  }

  @Test func `every loss has a name that reads back`() {
    for loss in SequenceLoss.all { #expect(SequenceLoss(name: loss.name) == loss) }
    #expect(Set(SequenceLoss.all.map(\.name)).count == SequenceLoss.all.count)
    #expect(SequenceLoss(name: "rouge-9") == nil)
  }

  @Test func `token disagreement counts the positions that differ`() {
    #expect(SequenceLoss.disagreement([1, 2, 3, 4], [1, 5, 3]) == 0.5)
    #expect(SequenceLoss.disagreement([Int](), []) == 0)
    #expect(SequenceLoss.tokenDisagreement.loss("a b", references: ["c d", "a x"]) == 0.5)
    #expect(SequenceLoss.editDistance([1, 2, 3], [2, 3, 4]) == 2.0 / 3)
  }

  @Test func `a text loses nothing against itself and everything against no reference`() {
    for loss in SequenceLoss.all where loss.readsReferences {
      #expect(
        abs(
          loss.loss(
            "seven different words stand in this text",
            references: ["x", "seven different words stand in this text"])) < 1e-12)
      #expect(loss.loss("text", references: []) == 1)
    }
  }

  @Test func `repetition is four words three times`() {
    func repeats(_ text: String) -> Bool { SequenceLoss.repetition.loss(text, references: []) == 1 }
    #expect(!repeats("the mill by the sea. The mill by the sea."))
    #expect(repeats("the mill by the sea. The mill by the sea, and THE MILL BY THE lake"))
    #expect(repeats("The T-Z-C-A-R-A-A-A-A-A-A-A"))
    #expect(!repeats("a a a a a") && repeats("a a a a a a"))
    #expect(!repeats("") && !repeats("one two three"))
    #expect(repeats("д е ж з. д е ж з. д е ж з"))
  }

  @Test func `unsupported names and numbers are those that the document lacks`() {
    let source =
      "The mill at Carrow Creek was built in 1,742 by Ann Moore; it paid £3.50 a year, in the north of france."
    func loss(_ text: String) -> Double {
      SequenceLoss.unsupported.loss(text, references: [], source: source)
    }
    #expect(loss("The mill was built long ago.") == 0)
    #expect(loss("Ann Moore built it in 1742 for 3.50, in France.") == 0)
    // Of Carrow, Cliff, 1742 and 1926 two are made up; "Built" begins a sentence and "He" another.
    #expect(loss("Built at Carrow Cliff in 1742. He closed it in 1926.") == 0.5)
    #expect(loss("It cost 3.5") == 1)
    #expect(loss("") == 0)
    #expect(SequenceLoss.unsupported.loss("It was Moore.", references: ["Moore"]) == 1)
  }

  @Test func `metrics that see nothing are told from those that see something`() {
    let cyrillic = (0..<40).map { _ in ["терминал редактор"] }
    let rouge = SequenceLoss.rouge(Rouge(.rougeL))
    #expect(
      rouge.vacuity(references: cyrillic)?.contains("sees no words in the references of 40 of 40 documents")
        == true)
    #expect(rouge.vacuity(references: cyrillic + [["one"], ["two"]]) != nil)
    #expect(rouge.vacuity(references: cyrillic + (0..<3).map { _ in ["слово", "one"] }) == nil)
    #expect(rouge.vacuity(references: [["..."]]) != nil && rouge.vacuity(references: []) == nil)
    for name in ["chrf", "token-f1", "bleu", "edit-distance", "repetition"] {
      #expect(SequenceLoss(name: name)?.vacuity(references: cyrillic) == nil, "\(name)")
    }
    #expect(SequenceLoss.tokenF1.vacuity(references: [["the"], ["a"]]) != nil)
    let worst = [Double](repeating: 1, count: 96)
    #expect(
      rouge.vacuity(fullModelLosses: worst + [0.5, 0.5, 0.5, 0.5])?.contains("on 96 of 100 documents") == true
    )
    #expect(rouge.vacuity(fullModelLosses: worst.dropLast() + [0.5, 0.5, 0.5, 0.5, 0.9]) == nil)
    #expect(rouge.vacuity(fullModelLosses: []) == nil)
  }
}
