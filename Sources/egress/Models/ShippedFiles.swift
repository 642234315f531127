import Foundation

/// Files that come with the program: models, and exit and draft heads of the models that it knows by name.
enum ShippedFiles {
  /// The exit heads of a model, or `nil` where none are shipped or found.
  static func exitHeads(of entry: ModelEntry) -> String? { path("exits/\(entry.name).safetensors") }

  /// The draft head of a model, or `nil` where none is shipped or found.
  static func draftHead(of entry: ModelEntry) -> String? { path("drafts/\(entry.name).safetensors") }

  /// Where a file lies: in share/egress beside the folder of an installed program, or in the folder Weights of the
  /// source tree that the program was built in.
  static func path(_ name: String) -> String? {
    guard let program = Bundle.main.executableURL?.resolvingSymlinksInPath() else { return nil }
    var folder = program.deletingLastPathComponent()
    // A build lies at most this deep in its tree: .build/<triple>/release.
    for _ in 0..<5 where folder.path != "/" {
      for home in ["share/egress", "../share/egress", "Weights"] {
        let file = folder.appendingPathComponent(home).appendingPathComponent(name).standardizedFileURL
        if FileManager.default.fileExists(atPath: file.path) { return file.path }
      }
      folder = folder.deletingLastPathComponent()
    }
    return nil
  }
}
