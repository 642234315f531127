import RiskControl
import Testing

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
    let cases = try FixtureFile.decode("text-losses.json", as: Fixture.self).cases
    #expect(cases.count == 97)
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
    let stems = try FixtureFile.decode("text-losses.json", as: Fixture.self).stems
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
    for loss in SequenceLoss.all {
      #expect(
        abs(
          loss.loss(
            "seven different words stand in this text",
            references: ["x", "seven different words stand in this text"])) < 1e-12)
      #expect(loss.loss("text", references: []) == 1)
    }
  }
}
