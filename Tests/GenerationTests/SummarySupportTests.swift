import Generation
import Testing

@Suite struct SummarySupportTests {
  private func unsupported(_ summary: String, _ document: String) -> [String] {
    SummarySupport(document: document).check(summary).flatMap(\.unsupported)
  }

  private let mill = """
    The Tide Mill at Carrow Creek ground 1,926.50 tonnes in 1926. Dr. Anna Lee-Smith of the U.S. Army, who led the North
    Atlantic Treaty Organization’s survey, waited fifty-five minutes. It was the twentieth mill; the Americans' flour \
    went
    to McDonald's in New York. Tom: I bought 3 of them.
    """

  @Test(arguments: [
    "In 1926 it ground 1926.5 tonnes.", "It ground 1,926.5 tonnes.", "The 20th mill waited 55 minutes.",
    "Carrow Creek's mill was led by Anna Lee.", "Anna Lee's mill, Smith's and Dr. Lee-Smith's.",
    "The US Army and an army met.",
    "NATO's survey and NATO were there.",
    "An American went to McDonald’s.", "Researchers found that it was small.",
    "However, Tom bought three of them.",
    "Mr. Tom says I'm sure.", "Waiting took long. Flour went to New York.", "He waited 55.", "It is 3.", "",
  ])
  func `what the document has is supported`(_ summary: String) {
    #expect(unsupported(summary, mill).isEmpty, "\(unsupported(summary, mill))")
  }

  @Test(arguments: [
    ("It closed in 1927.", ["1927"]), ("It ground 926 tonnes.", ["926"]),
    ("It took 26.5 or 192 days.", ["26.5", "192"]),
    ("It was sold to Peter Brown, Carrow and Mary.", ["Peter Brown", "Mary"]), ("John Lee led it.", ["John"]),
    ("NASA paid for it.", ["NASA"]), ("The mill's owner was Brown's aunt.", ["Brown"]),
    ("On Monday the Mill closed.", ["Monday"]), ("Anna Lee-Brown came.", ["Lee-Brown"]),
    ("It was the 21st. It was the 21st again.", ["21st", "21st"]), ("Flour and U.K. flour.", ["U.K"]),
    ("She met the EU. EU rules hold.", ["EU", "EU"]),
  ])
  func `names and numbers that it lacks are told`(_ summary: String, _ expected: [String]) {
    #expect(unsupported(summary, mill) == expected)
  }

  @Test func `a sentence has the document's nearest one`() {
    let support = SummarySupport(
      document: "The mill closed in 1926. The gates rotted. The pond filled with mud.")
    let sentences = support.check("Gates were rotting. In 1926 mills closed, e.g. by law. Nothing else.")
    #expect(
      sentences == [
        SupportedSentence(text: "Gates were rotting.", sourceSentence: "The gates rotted.", unsupported: []),
        SupportedSentence(
          text: "In 1926 mills closed, e.g. by law.", sourceSentence: "The mill closed in 1926.",
          unsupported: []),
        SupportedSentence(text: "Nothing else.", sourceSentence: nil, unsupported: []),
      ])
  }

  @Test func `a document without sentences supports nothing`() {
    #expect(
      SummarySupport(document: " ").check("It is 5.")
        == [SupportedSentence(text: "It is 5.", sourceSentence: nil, unsupported: ["5"])])
  }

  @Test func `large documents take linear time`() {
    let document = String(repeating: "Anna went to Carrow Creek in 1926 and 1,000 others did. ", count: 4000)
    #expect(unsupported("Anna went in 1927 with Bob.", document) == ["1927", "Bob"])
  }
}
