import Foundation

/// Files that come with the program: models, and exit and draft heads of the models that it knows by name.
enum ShippedFiles {
  /// The heads of a model, or `nil` where none come with it.
  ///
  /// - Throws: ``CommandError`` where they should be there and are not: a program that was copied without them would
  ///   decode in another way and not say so.
  static func heads(_ kind: ModelEntry.Heads, of entry: ModelEntry) throws -> String? {
    guard entry.heads?.contains(kind) == true else { return nil }
    let name = "\(kind.rawValue)/\(entry.name).safetensors"
    guard let path = path(name) else {
      let (what, option) =
        kind == .exits
        ? ("exit heads", "--exit-heads FILE, or none") : ("draft head", "--draft FILE.safetensors")
      throw CommandError(
        "the \(what) of \(entry.name) come with the program, but there is no share/egress/\(name) where it lies; install it with "
          + "make install, or give \(option)")
    }
    return path
  }

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
