import Foundation
import Testing

/// The pages of this repository: their links lead somewhere, and the first page stays one that can be read.
@Suite struct LinkTests {
  /// Pages that people read, and those of the catalogues.
  private static let pages = [
    "", "docs", "Sources", "Weights", "Benchmarks", "Examples", "Tokenizers", "deploy",
  ]
  .flatMap { folder in
    folder.isEmpty
      ? ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"] : Repository.files(in: folder, endingWith: ".md")
  }

  /// The lines of a page that are no code.
  private static func prose(_ text: String) -> [Substring] {
    var isCode = false
    return text.split(separator: "\n", omittingEmptySubsequences: false).filter { line in
      defer { if line.hasPrefix("```") { isCode.toggle() } }
      return !isCode && !line.hasPrefix("```")
    }
  }

  /// What a heading is called in links: lower case, hyphens for spaces, nothing but letters, digits and hyphens.
  private static func anchor(of heading: Substring) -> String {
    let text = heading.drop { $0 == "#" || $0 == " " }.lowercased()
    return String(
      text.compactMap { $0 == " " ? "-" : $0.isLetter || $0.isNumber || "-_".contains($0) ? $0 : nil })
  }

  @Test func `links lead to files and headings that there are`() throws {
    var count = 0
    for page in Self.pages {
      let folder = Repository.root.appendingPathComponent(page).deletingLastPathComponent()
      let text = Self.prose(try Repository.text(page)).joined(separator: "\n")
      for match in text.matches(of: /\]\((?<target>[^)\s]+)\)/) where !match.target.contains(":") {
        count += 1
        let parts = match.target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        let file =
          parts[0].isEmpty
          ? Repository.root.appendingPathComponent(page)
          : folder.appendingPathComponent(String(parts[0])).standardizedFileURL
        guard FileManager.default.fileExists(atPath: file.path) else {
          Issue.record("\(page) leads to \(match.target), which is not there")
          continue
        }
        guard parts.count == 2, file.pathExtension == "md" else { continue }
        let headings = Self.prose(try String(contentsOf: file, encoding: .utf8)).filter { $0.hasPrefix("#") }
        #expect(
          headings.contains { Self.anchor(of: $0) == parts[1] },
          "\(page) leads to \(match.target), but there is no such heading")
      }
    }
    #expect(count > 150)
  }

  @Test func `every page of docs is in its index`() throws {
    let index = try Repository.text("docs/README.md")
    for page in Repository.files(in: "docs", endingWith: ".md") where page != "docs/README.md" {
      #expect(index.contains("(\(page.dropFirst("docs/".count)))"), "docs/README.md does not lead to \(page)")
    }
  }

  @Test func `the first page is 120 lines of 120 characters`() throws {
    let lines = try Repository.text("README.md").split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count <= 121)
    for line in lines { #expect(line.count <= 120, "\(line)") }
  }
}
