import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Transformers

/// The folder that downloaded models lie in, and the models that come with the program.
struct ModelStore {
  /// `${EGRESS_HOME:-~/.cache/egress}/models`
  let directory: String
  let manifest: ModelManifest

  init() throws {
    func value(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
    if let home = value("EGRESS_HOME") {
      directory = home + "/models"
    } else if let home = value("HOME") {
      directory = home + "/.cache/egress/models"
    } else {
      throw CommandError("neither EGRESS_HOME nor HOME says where models lie")
    }
    manifest = try ModelManifest.load()
  }

  /// Where a model lies or would lie. One that comes with the program may lie in the store as well.
  func path(_ entry: ModelEntry) -> String {
    let shipped = entry.source == .shipped ? ShippedFiles.path("models/" + entry.file) : nil
    return shipped ?? directory + "/" + entry.file
  }

  /// Where the packed weights of a model are kept, `packed` beside ``directory``, which is made if it is not there.
  func packedCopy(of path: String, _ compute: ComputePath) throws -> String {
    let folder = (directory as NSString).deletingLastPathComponent + "/packed"
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw CommandError("\(folder): expected a folder that can be made, found \(error.localizedDescription)")
    }
    let place = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    let name = FileDigest.sha256(text: "\(place)\n\(compute.rawValue)").prefix(16)
    return "\(folder)/\(URL(fileURLWithPath: place).lastPathComponent).\(name).packed"
  }

  /// Whether the model is in the store, as far as its size tells.
  func holds(_ entry: ModelEntry) -> Bool { Self.size(path(entry)) == entry.size }

  /// The path that `--model` means, and the manifest's entry if it is a name.
  ///
  /// - Throws: ``CommandError`` for a name nobody knows, a path where nothing is, and a model that has not been
  ///   downloaded.
  func resolve(_ model: String?) throws -> (path: String, entry: ModelEntry?) {
    let model = model ?? ModelManifest.defaultName
    if let entry = manifest.entry(model) {
      let path = path(entry)
      guard let size = Self.size(path) else {
        throw CommandError(
          entry.source == .shipped
            ? "the model \(entry.name) comes with the program, in share/egress/models beside its folder or in "
              + "Weights/models of its source tree, but is in neither"
            : "the model \(entry.name) is not here yet; run: egress models pull \(entry.name)")
      }
      guard size == entry.size else {
        let advice = entry.source == .shipped ? "" : "; run: egress models pull \(entry.name)"
        throw CommandError("\(path): expected \(entry.size) bytes, found \(size)\(advice)")
      }
      return (path, entry)
    }
    guard access(model, F_OK) == 0 else {
      throw CommandError(
        "there is no model and no file called \(model)\(manifest.suggestion(for: model)); --model takes a .gguf file, "
          + "a Hugging Face directory, or one of: \(manifest.names)")
    }
    return (model, nil)
  }

  /// Compares a file with the manifest.
  ///
  /// - Throws: ``CommandError`` saying what was expected and what found.
  static func verify(_ path: String, _ entry: ModelEntry) throws {
    guard let size = size(path) else { throw CommandError("\(path): no such file") }
    guard size == entry.size else {
      throw CommandError("\(path): expected \(entry.size) bytes, found \(size)")
    }
    let found = try FileDigest.sha256(path: path)
    guard found == entry.sha256 else {
      throw CommandError("\(path): expected sha256 \(entry.sha256), found \(found)")
    }
  }

  /// Bytes of a file, or `nil` if it is not there.
  static func size(_ path: String) -> Int? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return Int(status.st_size)
  }
}
