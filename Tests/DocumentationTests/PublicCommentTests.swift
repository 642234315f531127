import Foundation
import Testing

/// Every public declaration says what it is: its shape, unit, range, errors, cost, source.
@Suite struct PublicCommentTests {
  private struct Place {
    var file: String
    var line: Int
    var code: String
  }

  /// Declarations are found by their words, line by line, as swift-format lays the sources out: cases of a public enum
  /// and requirements of a public protocol stand two spaces deeper than it.
  private static func declarations(in file: String) throws -> [(place: Place, hasComment: Bool)] {
    let lines = try Repository.text(file).split(separator: "\n", omittingEmptySubsequences: false)
    var found: [(place: Place, hasComment: Bool)] = []
    var scopes: [(indentation: Int, members: Regex<Substring>)] = []
    let modifiers = /(?:@\w+(?:\([^)]*\))? +)*/
    let isPublic = /(?:public|open) .*/
    let enumeration = /public (?:indirect )?enum .*\{/
    let interface = /public protocol .*\{/
    for (index, line) in lines.enumerated() {
      let indentation = line.prefix { $0 == " " }.count
      var code = line.dropFirst(indentation)
      if code == "}" { scopes.removeAll { $0.indentation >= indentation } }
      code = code.trimmingPrefix(modifiers)
      let isMember = scopes.last.map {
        indentation == $0.indentation + 2 && code.prefixMatch(of: $0.members) != nil
      }
      if code.wholeMatch(of: enumeration) != nil { scopes.append((indentation, /(?:indirect )?case\b/)) }
      if code.wholeMatch(of: interface) != nil {
        scopes.append((indentation, /(?:static |mutating )*(?:var|func|init|subscript|associatedtype)/))
      }
      guard isMember == true || (code.wholeMatch(of: isPublic) != nil && !code.hasPrefix("public import "))
      else { continue }
      var above = index - 1
      while above >= 0, lines[above].drop(while: { $0 == " " }).hasPrefix("@") { above -= 1 }
      let hasComment = above >= 0 && lines[above].drop { $0 == " " }.hasPrefix("///")
      found.append((Place(file: file, line: index + 1, code: String(code)), hasComment))
    }
    return found
  }

  @Test func `public declarations have comments`() throws {
    var count = 0
    for file in Repository.files(in: "Sources", endingWith: ".swift") where !file.hasPrefix("Sources/egress/")
    {
      for (place, hasComment) in try Self.declarations(in: file) {
        count += 1
        #expect(hasComment, "\(place.file):\(place.line): \(place.code)")
      }
    }
    // Fewer would mean that they are not found any more.
    #expect(count > 1800)
  }
}
