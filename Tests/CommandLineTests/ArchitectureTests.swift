import Foundation
import Testing

/// The package manager lets a file import every module that is built; the architecture does not.
@Suite struct ArchitectureTests {
  private static let allowed: [String: Set<String>] = [
    "TensorKernels": ["CTensorKernels", "COpenBLAS"],
    "Checkpoints": ["TensorKernels", "CZlib"],
    "Tokenization": ["CSentencePiece"],
    // The forward pass calls the C kernels by pointer; a Swift wrapper in another module would not be inlined.
    "DecoderModels": ["TensorKernels", "CTensorKernels", "Checkpoints"],
    "ChatTemplates": [],
    "EarlyExit": ["DecoderModels", "Tokenization", "ChatTemplates", "Checkpoints"],
    "SpeculativeDecoding": ["EarlyExit", "DecoderModels", "Checkpoints"],
    "RiskControl": [],
  ]

  private static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// Names of modules that the Swift files of a target import.
  private func imports(of target: String) throws -> [(file: String, module: String)] {
    let folder = Self.root.appendingPathComponent("Sources/\(target)")
    let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?
      .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" }
    return try (files ?? []).flatMap { file in
      try String(contentsOf: file, encoding: .utf8).split(separator: "\n").compactMap { line in
        let words = line.split(separator: " ")
        guard let place = words.firstIndex(of: "import"), words.count > place + 1,
          words[..<place].allSatisfy({
            $0.hasPrefix("@") || ["public", "package", "internal", "private"].contains($0)
          })
        else { return nil }
        return (file.lastPathComponent, String(words.last ?? ""))
      }
    }
  }

  @Test func `modules import only what the architecture allows`() throws {
    let targets = try FileManager.default.contentsOfDirectory(atPath: Self.root.path + "/Sources")
    let ours = Set(targets)
    #expect(targets.contains("EarlyExit"))
    for target in targets {
      guard let allowed = Self.allowed[target] else { continue }
      let found = try imports(of: target)
      #expect(!found.isEmpty || ["RiskControl", "ChatTemplates"].contains(target))
      for (file, module) in found where ours.contains(module) && !allowed.contains(module) {
        Issue.record("\(target)/\(file) imports \(module)")
      }
    }
  }

  @Test func `libraries neither print nor end the process`() throws {
    for target in Self.allowed.keys {
      let folder = Self.root.appendingPathComponent("Sources/\(target)")
      for case let file as URL in FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)
        ?? .init()
      where file.pathExtension == "swift" {
        for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
          let code = line.drop { $0 == " " }
          guard !code.hasPrefix("//") else { continue }
          for call in ["print(", "exit(", "fatalError("] {
            #expect(
              !code.hasPrefix(call) && !code.contains(" \(call)"),
              "\(target)/\(file.lastPathComponent): \(code)")
          }
        }
      }
    }
  }
}
