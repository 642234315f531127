import ArgumentParser
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
      to go on after an interruption.

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

  @OptionGroup var models: ModelOptions

  /// Tokens of a file; the last text may go beyond them.
  private static let fileTokens = 32_768

  func run() throws {
    let (bytes, name) = try TextInput.bytes(path: data)
    let texts = try bytes.split(separator: UInt8(ascii: "\n")).enumerated().map { index, line in
      guard let result = try? JSONOutput.decode(BatchResult.self, from: line) else {
        throw CommandError("\(name) line \(index + 1) is not a result of --input and --output")
      }
      guard !result.promptTokenIds.isEmpty else {
        throw CommandError("\(name) line \(index + 1): prompt_token_ids is empty")
      }
      return (prompt: result.promptTokenIds, output: result.tokenIds)
    }
    guard !texts.isEmpty else { throw CommandError("\(name) is empty") }
    let decoder = try models.load().model.decoder
    guard decoder.configuration.encoder == nil else {
      throw CommandError("export-states takes a decoder alone; \(models.model) is an encoder-decoder")
    }
    let last = decoder.configuration.layerCount
    let layers = Set(layers?.layers ?? [last]).sorted()
    if let layer = layers.first(where: { !(1...last).contains($0) }) {
      throw CommandError("--layers must be in 1...\(last), but has \(layer)")
    }
    try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
    Interrupt.watch()
    let bar = ProgressBar(total: texts.count, what: "texts")
    var next = 0
    var number = 0
    while next < texts.count {
      var end = next
      var tokens = 0
      while end < texts.count, tokens < Self.fileTokens {
        tokens += texts[end].prompt.count + texts[end].output.count
        end += 1
      }
      let digits = String(number)
      let file =
        "\(output)/states-\(String(repeating: "0", count: max(0, 5 - digits.count)))\(digits).safetensors"
      if !FileManager.default.fileExists(atPath: file) {
        var tensors = Dictionary(uniqueKeysWithValues: layers.map { ($0, [Float]()) })
        var scales = tensors
        var ids: [TokenID] = []
        var starts: [Int] = []
        var outputs: [Int] = []
        for index in next..<end {
          if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
          starts.append(ids.count)
          outputs.append(ids.count + texts[index].prompt.count)
          let text = texts[index].prompt + texts[index].output
          ids += text
          try Self.run(text, decoder, layers) { layer, states in
            tensors[layer, default: []] += states.rowsDividedByRootMeanSquare(
              size: decoder.configuration.hiddenSize)
            scales[layer, default: []] += states.rootMeanSquares(size: decoder.configuration.hiddenSize)
          }
          bar.show(done: index + 1)
        }
        func numbers(_ name: String, _ values: [Float]) -> TensorFile.Tensor {
          .init(name: name, shape: [values.count], values: values, isSinglePrecision: true)
        }
        let size = decoder.configuration.hiddenSize
        try TensorFile.write(
          layers.map {
            .init(name: "layer.\($0)", shape: [ids.count, size], values: tensors[$0] ?? [])
          } + layers.map { numbers("scale.\($0)", scales[$0] ?? []) }
            + [("tokens", ids), ("starts", starts), ("outputs", outputs)].map {
              numbers($0, $1.map(Float.init))
            },
          to: file)
      }
      next = end
      number += 1
    }
    bar.clear()
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
