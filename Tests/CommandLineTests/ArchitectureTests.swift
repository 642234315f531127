import Foundation
import Testing

/// The package manager lets a file import every module that is built; the architecture does not.
///
/// Who may import whom stands once, in the table of docs/architecture.md.
@Suite struct ArchitectureTests {
  private static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// By target, what it may import; `nil` for whatever there is.
  private static func table() throws -> [String: Set<String>?] {
    let page = try String(contentsOf: root.appendingPathComponent("docs/architecture.md"), encoding: .utf8)
    var table: [String: Set<String>?] = [:]
    for line in page.split(separator: "\n") where line.hasPrefix("| `") {
      let cells = line.split(separator: "|", omittingEmptySubsequences: false).dropFirst().map {
        $0.trimmingCharacters(in: .whitespaces)
      }
      guard cells.count >= 3 else { continue }
      let names = cells[2].split(separator: " ").map { $0.trimmingCharacters(in: ["`"]) }
      table[cells[0].trimmingCharacters(in: ["`"])] = .some(
        cells[2] == "every library" ? nil : Set(names))
    }
    return table
  }

  private static func targets() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: root.path + "/Sources").filter { !$0.hasPrefix(".") }
  }

  private static func files(of target: String) -> [URL] {
    let folder = root.appendingPathComponent("Sources/\(target)")
    return FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" } ?? []
  }

  /// Lines of code, without those that are comments.
  private static func code(_ file: URL) throws -> [Substring] {
    try String(contentsOf: file, encoding: .utf8).split(separator: "\n").filter {
      !$0.drop { $0 == " " }.hasPrefix("//")
    }
  }

  private static func importedModule(_ line: Substring) -> String? {
    let words = line.split(separator: " ")
    guard let place = words.firstIndex(of: "import"), words.count > place + 1,
      words[..<place].allSatisfy({
        $0.hasPrefix("@") || ["public", "package", "internal", "private"].contains($0)
      })
    else { return nil }
    return words.last.map(String.init)
  }

  @Test func `the table knows every target and no other`() throws {
    #expect(try Set(Self.table().keys) == Set(Self.targets()))
  }

  @Test func `modules import only what the table allows`() throws {
    let table = try Self.table()
    let ours = Set(try Self.targets())
    var imports = 0
    for (target, allowed) in table {
      guard let allowed else { continue }
      for file in Self.files(of: target) {
        for module in try Self.code(file).compactMap(Self.importedModule) where ours.contains(module) {
          imports += 1
          #expect(allowed.contains(module), "\(target)/\(file.lastPathComponent) imports \(module)")
        }
      }
    }
    #expect(imports > 100)
  }

  @Test func `what is imported is declared`() throws {
    let package = try String(contentsOf: Self.root.appendingPathComponent("Package.swift"), encoding: .utf8)
    let declarations = package.components(separatedBy: "name: \"").dropFirst()
    let ours = Set(try Self.targets())
    for target in try Self.targets() {
      let declaration = try #require(
        // The package and a product may have the name too, and stand before.
        declarations.last { $0.hasPrefix("\(target)\"") && !$0.hasPrefix("\(target)\", targets:") },
        "\(target) is not declared")
      for file in Self.files(of: target) {
        for module in try Self.code(file).compactMap(Self.importedModule) where ours.contains(module) {
          #expect(
            declaration.contains("\"\(module)\"") || package.contains("\"\(module)\", condition:"),
            "\(target)/\(file.lastPathComponent) imports \(module), which Package.swift does not declare")
        }
      }
    }
  }

  /// Whether a line takes the value of an optional by force: `!` after a name or a bracket, outside its texts.
  private static func forcesValue(_ line: Substring) -> Bool {
    var isText = false
    var before: Character = " "
    for (place, character) in zip(line.indices, line) {
      if character == "\"", before != "\\" { isText.toggle() }
      if !isText, character == "!", before.isLetter || before.isNumber || ")]_".contains(before),
        !line[line.index(after: place)...].hasPrefix("=")
      {
        return true
      }
      before = character
    }
    return false
  }

  @Test func `a value that is taken by force is seen`() {
    #expect(Self.forcesValue("let a = values.first!") && Self.forcesValue("f(x)! + 1"))
    #expect(!Self.forcesValue("guard !isEmpty, a != b else") && !Self.forcesValue(#"let a = "Really!""#))
  }

  @Test func `libraries neither print nor end the process nor trap`() throws {
    for target in try Self.targets() where target != "egress" {
      for file in Self.files(of: target) {
        for line in try Self.code(file) {
          let code = line.drop { $0 == " " }
          let calls = [
            "print(", "exit(", "fatalError(", "precondition(", "preconditionFailure(", "assert(",
            "assertionFailure(", "try! ", "as! ",
          ]
          let isClean =
            calls.allSatisfy { !code.hasPrefix($0) && !code.contains(" \($0)") } && !Self.forcesValue(code)
          #expect(isClean, "\(target)/\(file.lastPathComponent): \(code)")
        }
      }
    }
  }
}
