import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import Transformers

/// Writes the hidden states of texts to a folder, or those of a shard's texts to a folder of its own.
struct StateExportRun {
  /// The file of texts.
  let data: String
  let models: ModelOptions
  /// Layers after which to look; `nil` for the last.
  let layers: [Int]?
  /// The folder.
  let output: String

  func run() throws {
    let texts = try StateText.read(data)
    let (_, reader) = try load()
    try write(texts, to: output, reader, kept: { _ in true }) { _, _ in }
  }

  func run(_ shard: Shard, command: String) throws {
    let texts = try StateText.read(data)
    var ids: Set<DocumentIdentifier> = []
    for text in texts where !ids.insert(text.id).inserted {
      throw CommandError("\(data) has the id \(text.id) twice, which --shard does not take")
    }
    let own = texts.filter { shard.contains($0.id) }
    let list = StateFiles.list(of: output)
    let path = shard.path(for: list)
    let begun = try ShardOptions.begun(
      shard, command: command, models: models, data: data, output: list, documents: texts.count,
      lines: own.count)
    guard var description = begun else { return }
    let (loaded, reader) = try load()
    description.modelDigest = try loaded.digest()
    let settings = [
      loaded.model.computeName ?? "", reader.layers.map(String.init).joined(separator: ","),
    ]
    let lines = try ShardLines(
      path: path,
      header: BatchShardHeader(
        shard: description, settings: FileDigest.sha256(text: settings.joined(separator: " "))),
      ids: own.map(\.id))
    // A file is whole before its texts are on the list.
    let before = lines.done.count
    var done = before
    try write(own, to: StateFiles.folder(of: path), reader, kept: { $0.lowerBound < before }) { file, part in
      var row = 0
      for index in part {
        defer { row += own[index].count }
        guard index >= done else { continue }
        try lines.append(StateLine(id: own[index].id, file: file, row: row, tokens: own[index].count))
        done = index + 1
      }
    }
    try lines.finish()
  }

  private func load() throws -> (model: LoadedModel, reader: HiddenStateReader) {
    let loaded = try models.load()
    do {
      return (loaded, try HiddenStateReader(loaded.model, layers: layers))
    } catch EarlyExitError.option(let field, let expected, let found) {
      throw CommandError(
        field == "layers"
          ? "--layers must be \(expected), but has \(found)"
          : "export-states takes \(expected); \(models.model) is \(found)")
    }
  }

  /// Writes the files that are not there yet.
  ///
  /// - Parameters:
  ///   - kept: Whether a file of these texts, where there is one, is taken for theirs.
  ///   - note: Told of each file that is whole, and which texts are in it.
  private func write(
    _ texts: [StateText], to folder: String, _ reader: HiddenStateReader, kept: (Range<Int>) -> Bool,
    note: (String, Range<Int>) throws -> Void
  ) throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw CertificationError(.storage, "cannot make \(folder): \(error.localizedDescription)")
    }
    Interrupt.watch()
    let bar = ProgressBar(total: texts.count, what: "texts")
    defer { bar.clear() }
    let size = reader.hiddenSize
    for (number, part) in StateFiles.parts(texts).enumerated() {
      let name = StateFiles.name(number)
      let file = (folder as NSString).appendingPathComponent(name)
      if !FileManager.default.fileExists(atPath: file) || !kept(part) {
        var rows = StateRows(layers: reader.layers, hiddenSize: size)
        for index in part {
          if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
          rows.begin(texts[index])
          try reader.read(texts[index].prompt + texts[index].output) { layer, states in
            rows.append(
              states.rowsDividedByRootMeanSquare(size: size), scales: states.rootMeanSquares(size: size),
              layer: layer)
          }
          bar.show(done: index + 1)
        }
        try rows.write(to: file)
      }
      try note(name, part)
    }
  }
}
