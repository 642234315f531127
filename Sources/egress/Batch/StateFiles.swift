import Certification
import Checkpoints
import FileFormats
import Foundation
import Transformers

/// Hidden states of some texts, row by row, on their way to a file.
struct StateRows {
  private let layers: [Int]
  private let hiddenSize: Int
  private var states: [Int: [Float]]
  private var scales: [Int: [Float]]
  private var tokens: [TokenID] = []
  private var starts: [Int] = []
  private var outputs: [Int] = []

  init(layers: [Int], hiddenSize: Int) {
    self.layers = layers
    self.hiddenSize = hiddenSize
    states = Dictionary(uniqueKeysWithValues: layers.map { ($0, []) })
    scales = states
  }

  /// Begins a text; its rows follow.
  mutating func begin(_ text: StateText) {
    starts.append(tokens.count)
    outputs.append(tokens.count + text.prompt.count)
    tokens += text.prompt + text.output
  }

  /// Appends rows of the text that was begun last, each divided by its root mean square.
  mutating func append(_ rows: [Float], scales values: [Float], layer: Int) {
    states[layer, default: []] += rows
    scales[layer, default: []] += values
  }

  func write(to path: String) throws {
    func numbers(_ name: String, _ values: [Float]) -> TensorFile.Tensor {
      .init(name: name, shape: [values.count], values: values, isSinglePrecision: true)
    }
    try TensorFile.write(
      layers.map {
        .init(name: "layer.\($0)", shape: [tokens.count, hiddenSize], values: states[$0] ?? [])
      } + layers.map { numbers("scale.\($0)", scales[$0] ?? []) }
        + [("tokens", tokens), ("starts", starts), ("outputs", outputs)].map {
          numbers($0, $1.map(Float.init))
        },
      to: path)
  }
}

/// A prompt with its output.
struct StateText {
  var id: DocumentIdentifier
  var prompt: [TokenID]
  var output: [TokenID]

  var count: Int { prompt.count + output.count }

  /// Reads the results of a batch.
  static func read(_ path: String) throws -> [StateText] {
    let (bytes, name) = try TextInput.bytes(path: path)
    let texts = try bytes.split(separator: UInt8(ascii: "\n")).enumerated().map { index, line in
      guard let result = try? JSONOutput.decode(BatchResult.self, from: line) else {
        throw CommandError("\(name) line \(index + 1) is not a result of --input and --output")
      }
      guard !result.promptTokenIds.isEmpty else {
        throw CommandError("\(name) line \(index + 1): prompt_token_ids is empty")
      }
      return StateText(id: result.id, prompt: result.promptTokenIds, output: result.tokenIds)
    }
    guard !texts.isEmpty else { throw CommandError("\(name) is empty") }
    return texts
  }
}

/// A folder of files with hidden states, and which texts go to which.
enum StateFiles {
  /// Tokens of a file; the last text may go beyond them.
  private static let fileTokens = 32_768

  /// The texts of each file.
  static func parts(_ texts: [StateText]) -> [Range<Int>] {
    var parts: [Range<Int>] = []
    var next = 0
    while next < texts.count {
      var end = next
      var tokens = 0
      while end < texts.count, tokens < fileTokens {
        tokens += texts[end].count
        end += 1
      }
      parts.append(next..<end)
      next = end
    }
    return parts
  }

  /// What the file of a number is called.
  static func name(_ number: Int) -> String {
    let digits = String(number)
    return "states-\(String(repeating: "0", count: max(0, 5 - digits.count)))\(digits).safetensors"
  }

  /// Of a folder of states: where the list of its shards' texts belongs.
  static func list(of folder: String) -> String {
    var folder = folder[...]
    while folder.count > 1, folder.last == "/" { folder.removeLast() }
    return folder + ".jsonl"
  }

  /// Of such a list: the folder.
  static func folder(of list: String) -> String {
    list.hasSuffix(".jsonl") ? String(list.dropLast(".jsonl".count)) : list
  }
}

/// Where the states of a text are, in a shard of them: a line of the shard's list.
struct StateLine: Codable {
  var id: DocumentIdentifier
  /// In the shard's folder.
  var file: String
  /// The row of its first token.
  var row: Int
  /// Its tokens.
  var tokens: Int
}

/// Puts shards of hidden states together: the rows that the model gave, in the order of the texts.
struct StateMerge {
  /// Mapped, by path.
  private var files: [String: [String: MappedTensor]] = [:]

  /// Writes the files that a run on one machine writes.
  mutating func write(_ set: ShardSet, _ texts: [StateText], to folder: String, replacing isForced: Bool)
    throws
  {
    let lines = try set.lines(of: texts.map(\.id)).map { path, bytes in
      guard let line = try? JSONOutput.decode(StateLine.self, from: bytes) else {
        throw CertificationError(.shards, "\(path) is damaged; remove the shard and run it again")
      }
      return (path: (StateFiles.folder(of: path) as NSString).appendingPathComponent(line.file), line: line)
    }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (number, part) in StateFiles.parts(texts).enumerated() {
      var rows: StateRows?
      for index in part { try append(lines[index].line, of: lines[index].path, texts[index], to: &rows) }
      let path = (folder as NSString).appendingPathComponent(StateFiles.name(number))
      try rows?.write(to: path + ".partial")
      try put(path + ".partial", as: path, replacing: isForced)
    }
  }

  private mutating func append(
    _ line: StateLine, of path: String, _ text: StateText, to rows: inout StateRows?
  ) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw CertificationError(.unfinished, "\(path), which is a part of a shard, is not there")
    }
    let tensors = try files[path] ?? TensorFile.open(path)
    files[path] = tensors
    let layers = tensors.keys.compactMap { name in
      name.hasPrefix("layer.") ? Int(name.dropFirst("layer.".count)) : nil
    }.sorted()
    guard line.tokens == text.count, let count = tensors["tokens"]?.elementCount,
      line.row >= 0, line.row <= count - text.count,
      let size = layers.first.flatMap({ tensors["layer.\($0)"] })?.shape.last
    else { throw Self.damaged(path) }
    var all = rows ?? StateRows(layers: layers, hiddenSize: size)
    all.begin(text)
    let range = line.row..<line.row + line.tokens
    for layer in layers {
      let (states, scales) = (
        tensors["layer.\(layer)"]?.makeFloats(rows: range) ?? [],
        tensors["scale.\(layer)"]?.makeFloats(rows: range) ?? []
      )
      guard states.count == text.count * size, scales.count == text.count else { throw Self.damaged(path) }
      all.append(states, scales: scales, layer: layer)
    }
    rows = all
  }

  private static func damaged(_ path: String) -> CertificationError {
    CertificationError(.shards, "\(path) is damaged; remove the shard and run it again")
  }

  /// Gives a file its own name, unless something else has it.
  private func put(_ partial: String, as path: String, replacing isForced: Bool) throws {
    let manager = FileManager.default
    if manager.fileExists(atPath: path) {
      let isSame = manager.contentsEqual(atPath: path, andPath: partial)
      guard isSame || isForced else {
        try manager.removeItem(atPath: partial)
        throw CertificationError(
          .shards,
          "\(path) is there already and holds something else; choose another --output, or give --force to replace it"
        )
      }
      try manager.removeItem(atPath: path)
    }
    try manager.moveItem(atPath: partial, toPath: path)
  }
}
