import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Transformers

struct ExportStatesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export-states",
    abstract: "Write the hidden states of texts to files, to train heads on.",
    discussion: """
      Reads results that --input and --output of summarize or answer left, runs every prompt with its output through \
      the model, and writes files of safetensors to a folder: layer.N, (tokens, hidden size) in half precision, each \
      row divided by its root mean square; scale.N, (tokens), these root mean squares; tokens, their numbers; starts \
      and outputs, the rows where each text and its output begin. A file that is there already is kept: run it again \
      to go on after an interruption. A shard writes a folder of its own, and beside it a list of its texts, which \
      egress merge reads.

      EXAMPLES
        egress summarize --input docs.jsonl --output outputs.jsonl
        egress export-states --data outputs.jsonl --output states/
      """)

  @Option(
    help: ArgumentHelp("JSON Lines file of prompts with their outputs.", valueName: "outputs.jsonl"))
  var data: String

  @Option(help: ArgumentHelp("The folder that the files go to.", valueName: "folder"))
  var output: String

  @Option(help: ArgumentHelp("Layers after which to look. (default: the last)", valueName: "layers"))
  var layers: ExitPolicyOptions.LayerList?

  @OptionGroup var sharding: ShardOptions
  @OptionGroup var models: ModelOptions

  func validate() throws { try sharding.validate(data: data) }

  func run() throws {
    if let shard = try sharding.chosen() {
      return try ShardFailure.classifying { try run(shard) }
    }
    let texts = try StateText.read(data)
    let (decoder, layers) = try load().whole
    try write(texts, to: output, decoder, layers, kept: { _ in true }) { _, _ in }
  }

  private func run(_ shard: Shard) throws {
    let texts = try StateText.read(data)
    var ids: Set<DocumentIdentifier> = []
    for text in texts where !ids.insert(text.id).inserted {
      throw CommandError("\(data) has the id \(text.id) twice, which --shard does not take")
    }
    let own = texts.filter { shard.contains($0.id) }
    let list = StateFiles.list(of: output)
    let path = shard.path(for: list)
    let begun = try ShardOptions.begun(
      shard, command: Self._commandName, models: models, data: data, output: list, documents: texts.count,
      lines: own.count)
    guard var description = begun else { return }
    let (loaded, (decoder, layers)) = try load()
    description.modelDigest = try loaded.digest()
    let settings = [
      loaded.model.computeName ?? "", layers.map(String.init).joined(separator: ","),
    ]
    let lines = try ShardLines(
      path: path,
      header: BatchShardHeader(
        shard: description, settings: FileDigest.sha256(text: settings.joined(separator: " "))),
      ids: own.map(\.id))
    // A file is whole before its texts are on the list.
    let before = lines.done.count
    var done = before
    try write(own, to: StateFiles.folder(of: path), decoder, layers, kept: { $0.lowerBound < before }) {
      file, part in
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

  private func load() throws -> (model: LoadedModel, whole: (any DecoderModel, [Int])) {
    let loaded = try models.load()
    let decoder = loaded.model.decoder
    guard decoder.configuration.encoder == nil else {
      throw CommandError("export-states takes a decoder alone; \(models.model) is an encoder-decoder")
    }
    let last = decoder.configuration.layerCount
    let layers = Set(layers?.layers ?? [last]).sorted()
    if let layer = layers.first(where: { !(1...last).contains($0) }) {
      throw CommandError("--layers must be in 1...\(last), but has \(layer)")
    }
    return (loaded, (decoder, layers))
  }

  /// Writes the files that are not there yet.
  ///
  /// - Parameters:
  ///   - kept: Whether a file of these texts, where there is one, is taken for theirs.
  ///   - note: Told of each file that is whole, and which texts are in it.
  private func write(
    _ texts: [StateText], to folder: String, _ decoder: any DecoderModel, _ layers: [Int],
    kept: (Range<Int>) -> Bool, note: (String, Range<Int>) throws -> Void
  ) throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw CertificationError(.storage, "cannot make \(folder): \(error.localizedDescription)")
    }
    Interrupt.watch()
    let bar = ProgressBar(total: texts.count, what: "texts")
    defer { bar.clear() }
    let size = decoder.configuration.hiddenSize
    for (number, part) in StateFiles.parts(texts).enumerated() {
      let name = StateFiles.name(number)
      let file = (folder as NSString).appendingPathComponent(name)
      if !FileManager.default.fileExists(atPath: file) || !kept(part) {
        var rows = StateRows(layers: layers, hiddenSize: size)
        for index in part {
          if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
          rows.begin(texts[index])
          try Self.run(texts[index].prompt + texts[index].output, decoder, layers) { layer, states in
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

  /// Hands over the states of all tokens of a text after each layer, in parts.
  private static func run(
    _ text: [TokenID], _ decoder: any DecoderModel, _ layers: [Int], _ body: (Int, [Float]) -> Void
  ) throws {
    let states = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: 256)
    let cache = try decoder.makeCache(capacity: text.count)
    for start in stride(from: 0, to: text.count, by: states.capacity) {
      let part = start..<min(start + states.capacity, text.count)
      try decoder.embed(Array(text[part]), into: states)
      let rows = part.map { BatchRow(cache: cache, position: $0) }
      var done = 0
      for layer in layers {
        try decoder.advance(states, rows: rows, layers: done..<layer)
        done = layer
        body(layer, (0..<part.count).flatMap { states[$0] })
      }
    }
  }
}
