import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import Synchronization
import Transformers

/// One transformer layer that guesses a model's next hidden state from its last one and the token chosen from it,
/// trained for one model (Li et al., "EAGLE: speculative sampling requires rethinking feature uncertainty", ICML 2024).
/// Model's final norm and unembedding turn a guess into a distribution, over a shortlist and the prompt's own tokens
/// (Zhao et al., "FR-Spec", ACL 2025).
///
/// A row's input is A f / rms(f) + B e / rms(e). Here f is the hidden state of token t after the last layer, and e the
/// embedding of token t + 1. The layer is one of the model's own kind. Its output stands for the state of token t + 1.
/// Where the model has passed token t, C h / rms(h) is added for the state h after each of some lower layers (Li et
/// al., "EAGLE-3", 2025); a draft has no such states.
public struct DraftHead: Sendable {
  /// What is written beside a draft head.
  public struct Description: Codable, Sendable, Equatable {
    /// The version of this format; others than ``currentVersion`` are refused.
    public var version: Int
    /// What the model is called, and its SHA-256.
    public var model: String
    /// SHA-256 of the model's file.
    public var modelDigest: String
    /// SHA-256 of the tensors' file.
    public var headDigest: String

    enum CodingKeys: String, CodingKey {
      case model
      case version = "draft_head_version"
      case modelDigest = "model_sha256"
      case headDigest = "head_sha256"
    }

    /// The version that is written and read.
    public static let currentVersion = 2

    /// Where the description of a file of tensors lies.
    static func path(for tensors: String) -> String {
      URL(fileURLWithPath: tensors).deletingPathExtension().appendingPathExtension("json").path
    }
  }

  /// The file's name without its ending.
  public let name: String
  /// The tensors' file.
  public let path: String
  /// What is written beside the file.
  public let description: Description
  /// The tokens to choose from beside those of the prompt; empty for the whole vocabulary.
  public var shortlist: [TokenID] { unembedding.shortlist }

  /// α_FB where none is given: its guesses cost little, and verifying a few of them too.
  public static let usualFallback = 0.1

  private let tensors: [String: MappedTensor]
  let unembedding: ExitHeads
  private let preparation = Preparation()

  /// Reads a draft head and its description, and refuses that of another model.
  ///
  /// - Parameters:
  ///   - path: A safetensors file with `map.state` and `map.token`, A and B as (out, in); `map.state.L`, if any, C of
  ///     layer L; `shortlist`, if any; and the tensors `blk.0.…` of a layer. The description, JSON, lies beside it.
  ///   - modelDigest: SHA-256 of the model's file or directory.
  /// - Throws: ``SpeculativeDecodingError/draftHead(file:field:expected:found:)``, or `CheckpointError` for a damaged
  ///   file.
  public init(path: String, modelDigest: String) throws {
    let url = URL(fileURLWithPath: path)
    let beside = Description.path(for: path)
    func fault(_ file: String, _ field: String, _ expected: String, _ found: String)
      -> SpeculativeDecodingError
    {
      .draftHead(file: file, field: field, expected: expected, found: found)
    }
    guard
      let description = try? JSONDecoder().decode(
        Description.self, from: Data(contentsOf: URL(fileURLWithPath: beside)))
    else { throw fault(beside, "", "the description of a draft head", "something else, or nothing") }
    guard description.version == Description.currentVersion else {
      throw fault(beside, "draft_head_version", "\(Description.currentVersion)", "\(description.version)")
    }
    let digest = try FileDigest.sha256(path: path)
    guard digest == description.headDigest else {
      throw fault(path, "SHA-256", "\(description.headDigest), as \(beside) says", digest)
    }
    guard modelDigest == description.modelDigest else {
      throw fault(
        path, "model",
        "\(CheckpointError.printable(description.model)) with SHA-256 \(description.modelDigest)",
        modelDigest)
    }
    self.path = path
    name = url.deletingPathExtension().lastPathComponent
    self.description = description
    var tensors = try TensorFile.open(path)
    for (name, tensor) in tensors where name != "shortlist" {
      guard tensor.makeFloats().allSatisfy(\.isFinite) else {
        throw fault(path, "tensor \(CheckpointError.printable(name))", "finite numbers", "others")
      }
    }
    var shortlist: [TokenID] = []
    if let tensor = tensors.removeValue(forKey: "shortlist") {
      guard tensor.shape.count == 1 else {
        throw fault(path, "tensor shortlist", "a list of token numbers", "the shape \(tensor.shape)")
      }
      shortlist = try tensor.makeFloats().map {
        guard let token = TokenID(exactly: $0) else {
          throw fault(path, "tensor shortlist", "token numbers", "\($0)")
        }
        return token
      }
    }
    self.tensors = tensors
    unembedding = ExitHeads(shortlist: shortlist)
  }

  /// Packed for one model, once.
  ///
  /// - Throws: ``SpeculativeDecodingError`` or `DecoderError` where the head does not fit the model.
  func prepared(for model: LanguageModel) throws -> Prepared {
    if let found = preparation.made.withLock({ $0?.decoder === model.decoder ? $0?.head : nil }) {
      return found
    }
    let decoder = model.decoder
    try unembedding.check(decoder)
    let size = decoder.configuration.hiddenSize
    func map(_ name: String) throws -> [Float] {
      guard let tensor = tensors[name], tensor.shape == [size, size] else {
        throw SpeculativeDecodingError.draftHead(
          file: path, field: "tensor \(name)", expected: "the shape \([size, size])",
          found: tensors[name].map { "\($0.shape)" } ?? "none")
      }
      return tensor.makeFloats()
    }
    let last = decoder.configuration.layerCount
    var layers = [last]
    var parts = [try map("map.token"), try map("map.state")]
    for name in tensors.keys.sorted() where name.hasPrefix("map.state.") {
      guard let layer = Int(name.dropFirst("map.state.".count)), (1..<last).contains(layer) else {
        throw SpeculativeDecodingError.draftHead(
          file: path, field: "tensor \(CheckpointError.printable(name))",
          expected: "a layer in 1...\(last - 1) at the end of its name", found: "another")
      }
      layers.append(layer)
      parts.append(try map(name))
    }
    func join(_ parts: [[Float]]) throws -> SideMatrix {
      try decoder.makeMap(
        (0..<size).flatMap { row in parts.flatMap { $0[row * size..<(row + 1) * size] } })
    }
    let draft = try join(Array(parts.prefix(2)))
    let head = Prepared(
      layers: layers, draftMap: draft, map: parts.count == 2 ? draft : try join(parts),
      layer: try decoder.makeSideLayer(path: path, tensors: tensors.filter { !$0.key.hasPrefix("map.") }))
    preparation.made.withLock { $0 = (decoder, head) }
    return head
  }

  /// Copies the tensors' file and its description, which replaces what is there.
  ///
  /// - Throws: ``SpeculativeDecodingError/draftHead(file:field:expected:found:)`` where nothing can be written.
  public func copy(to target: String) throws {
    for (from, to) in [
      (path, target), (Description.path(for: path), Description.path(for: target)),
    ] where from != to {
      do {
        try Data(contentsOf: URL(fileURLWithPath: from)).write(to: URL(fileURLWithPath: to), options: .atomic)
      } catch {
        throw SpeculativeDecodingError.draftHead(
          file: to, field: "", expected: "a copy of \(from)", found: error.localizedDescription)
      }
    }
  }

  struct Prepared: Sendable {
    /// The layers whose states it reads, the last one first.
    let layers: [Int]
    /// B and A side by side.
    let draftMap: SideMatrix
    /// These, and C of each lower layer.
    let map: SideMatrix
    let layer: any DecoderModel
  }

  private final class Preparation: Sendable {
    let made = Mutex<(decoder: any DecoderModel, head: Prepared)?>(nil)
  }
}
