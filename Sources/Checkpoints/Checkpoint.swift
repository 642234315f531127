import FileFormats
import TensorKernels

/// A model's files, opened, checked and mapped: its configuration, its metadata and its named tensors.
///
/// Opening reads headers only; weights are read from the file when they are used. Whatever ``open(_:)`` returns is
/// consistent: every tensor lies within its file, and every tensor that the configuration demands is there with
/// the right shape.
public struct Checkpoint: Sendable {
  /// How the model is stored.
  public enum Kind: Sendable, Equatable {
    /// One GGUF file, or several parts.
    case gguf
    /// A directory with `config.json` and safetensors files, as the Hugging Face libraries write it.
    case huggingFace
  }

  /// The path that was opened: a file or a directory.
  public let path: String
  /// Whether it is a GGUF file or a Hugging Face directory.
  public let kind: Kind
  /// The facts of the model: sizes, family, positions.
  public let configuration: DecoderConfiguration
  /// The key-value pairs of a GGUF file; empty for a Hugging Face directory.
  public let metadata: [String: MetadataValue]
  /// What a reader should know of the files although the model is sound, a sentence each.
  public private(set) var notes: [String]
  private var tensors: [String: MappedTensor]

  init(
    path: String, kind: Kind, configuration stated: DecoderConfiguration, metadata: [String: MetadataValue],
    tensors stored: [String: MappedTensor]
  ) throws(CheckpointError) {
    var (configuration, tensors, notes) = (stated, stored, [String]())
    if configuration.encoder == nil {
      try TensorLayout.cutFused(&tensors, configuration)
      if let note = TensorLayout.settleHead(&tensors, &configuration, path: path) { notes.append(note) }
    }
    self.path = path
    self.kind = kind
    self.configuration = configuration
    self.metadata = metadata
    self.tensors = tensors
    self.notes = notes
    try validateDecoderTensors()
  }

  /// A layer that stands by itself beside a model of this configuration: tensors `blk.0.…` and no others.
  ///
  /// - Throws: ``CheckpointError`` for a tensor that is missing, of another shape or of another kind.
  public init(
    layerOf configuration: DecoderConfiguration, path: String, tensors: [String: MappedTensor]
  ) throws(CheckpointError) {
    self.path = path
    kind = .gguf
    self.configuration = configuration
    metadata = [:]
    notes = []
    self.tensors = tensors
    try validate(configuration.demandedTensors(ofLayer: 0))
  }

  /// Opens a `.gguf` file, of several parts any one, or a directory that holds `config.json` and either
  /// `model.safetensors` or `model.safetensors.index.json` with the shards it names.
  ///
  /// - Complexity: linear in the headers and metadata; weights are not touched.
  /// - Throws: ``CheckpointError`` for anything missing, unreadable, damaged or not supported.
  public static func open(_ path: String) throws(CheckpointError) -> Checkpoint {
    if MappedFile.isDirectory(path) { return try openDirectory(path) }
    let gguf = try GGUFParts(path: path)
    return try Checkpoint(
      path: path, kind: .gguf, configuration: DecoderConfiguration(gguf: gguf, path: path),
      metadata: gguf.metadata, tensors: gguf.tensors)
  }

  /// The names of all tensors, sorted.
  public var tensorNames: [String] { tensors.keys.sorted() }

  /// The tensor of that name, by GGUF's convention: `token_embd.weight`, `blk.0.attn_q.weight`, ….
  ///
  /// - Throws: ``CheckpointError`` when there is none.
  public func tensor(_ name: String) throws(CheckpointError) -> MappedTensor {
    guard let tensor = tensors[name] else { throw missingTensor(name, expected: "a tensor") }
    return tensor
  }

  /// The same with other tensors in the place of some, which have their shapes.
  func replacing(_ others: [String: MappedTensor], notes more: [String]) -> Checkpoint {
    var copy = self
    copy.tensors.merge(others) { $1 }
    copy.notes += more
    return copy
  }

  func tensorIfAny(_ name: String) -> MappedTensor? { tensors[name] }

  /// Whether there is a tensor of that name.
  public func hasTensor(_ name: String) -> Bool { tensors[name] != nil }

  /// Lets the system drop the pages of all files from memory, those of the metadata too; a later access reads them
  /// again.
  public func releasePages() {
    var released: Set<ObjectIdentifier> = []
    for tensor in tensors.values where released.insert(ObjectIdentifier(tensor.file)).inserted {
      tensor.file.releasePages(0..<tensor.file.bytes.count)
    }
  }

  /// The files that the tensors are in, as they are now; `nil` where tensors are computed, by an adapter.
  ///
  /// - Throws: ``CheckpointError`` where one is gone.
  package func fileStates() throws(CheckpointError) -> [FileState]? {
    guard tensors.values.allSatisfy({ $0.merged == nil }) else { return nil }
    var states: [FileState] = []
    for path in Set(tensors.values.map(\.path)).sorted() { states.append(try FileState(of: path)) }
    return states
  }

  func missingTensor(_ name: String, expected: String) -> CheckpointError {
    CheckpointError(
      kind: .tensor, file: path, field: "tensor \(CheckpointError.printable(storedName(name)))",
      expected: expected, found: "no such tensor")
  }

  /// What the files call a tensor: errors use it, so that it can be looked for.
  func storedName(_ name: String) -> String {
    kind == .huggingFace ? HuggingFaceNames(configuration.family).stored(name) : name
  }

  /// The last component of a path, without the extension.
  static func stem(of path: String) -> String {
    let component = path.split(separator: "/").last.map(String.init) ?? path
    guard let dot = component.lastIndex(of: "."), dot > component.startIndex else { return component }
    return String(component[..<dot])
  }
}
