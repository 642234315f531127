import Testing

/// Every library has a catalogue for DocC, and the code in it is code that the tests of this target run.
@Suite struct CatalogueTests {
  /// Products that are libraries.
  private static func libraries() throws -> [String] {
    let package = try Repository.text("Package.swift")
    let products = package.components(separatedBy: ".library(name: \"").dropFirst()
    return products.compactMap { $0.split(separator: "\"").first.map(String.init) } + ["FileFormats"]
  }

  /// The lines of a snippet between its marks, without the indentation of the function around them.
  private static func snippet(of library: String) throws -> String {
    let lines = try Repository.text("Tests/DocumentationTests/Snippets/\(library).swift")
      .split(separator: "\n", omittingEmptySubsequences: false)
    let start = try #require(lines.firstIndex(of: "  // snippet"))
    let end = try #require(lines.firstIndex(of: "  // end"))
    return lines[(start + 1)..<end].map { String($0.dropFirst(2)) }.joined(separator: "\n")
  }

  @Test func `every library has a landing page, an article and a snippet that is run`() throws {
    let libraries = try Self.libraries()
    #expect(libraries.count >= 14)
    for library in libraries {
      let pages = Repository.files(in: "Sources/\(library)/\(library).docc", endingWith: ".md")
      #expect(
        pages.contains("Sources/\(library)/\(library).docc/\(library).md"), "\(library) has no landing page")
      #expect(pages.count >= 2, "\(library) has no article")
      let text = try pages.map(Repository.text).joined()
      let snippet = try Self.snippet(of: library)
      #expect(snippet.count > 100)
      #expect(
        text.contains("```swift\n\(snippet)\n```"),
        "no page of \(library) has the text of Tests/DocumentationTests/Snippets/\(library).swift")
    }
    #expect(
      try Repository.names(in: "Tests/DocumentationTests/Snippets")
        == libraries.map { "\($0).swift" }.sorted())
  }
}
