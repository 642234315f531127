import Checkpoints
import FileFormats
import Foundation
import Transformers

/// The description that lies beside a file of exit heads, with the same name and the extension `json`.
public struct ExitHeadsDescription: Codable, Sendable, Equatable {
  /// Agreement with the full model on held-out text, after one layer.
  public struct Agreement: Codable, Sendable, Equatable {
    /// The exit's layer, counted from 1.
    public var layer: Int
    /// Share of tokens at which the shared head's best token is the full model's.
    public var sharedHead: Double
    /// The same for the map before its refinement, where there was one.
    public var regression: Double?
    /// The same for the fitted map.
    public var fittedMap: Double
    /// How often the classifier tells rightly whether it is, at the threshold ½.
    public var classifier: Double

    enum CodingKeys: String, CodingKey {
      case layer, regression
      case sharedHead = "shared_head"
      case fittedMap = "fitted_map"
      case classifier
    }
  }

  /// The version of this format.
  public var version: Int
  /// What the model is called.
  public var model: String
  /// SHA-256 of the model's file.
  public var modelDigest: String
  /// SHA-256 of the file that this describes.
  public var headsDigest: String
  /// Exit layers, ascending.
  public var layers: [Int]
  /// Numbers of a hidden state.
  public var hiddenSize: Int
  /// Tokens that exits choose from beside the prompt's; 0 for the whole vocabulary.
  public var shortlistSize: Int
  /// Tokens that maps were fitted on.
  public var fittedTokens: Int
  /// Tokens that classifiers were fitted on.
  public var classifierTokens: Int
  /// Tokens that the agreement was measured on.
  public var heldOutTokens: Int
  /// The weight of the squared maps in the regression.
  public var ridge: Double
  /// Gradient steps on each map after the regression, where there were any.
  public var refinementSteps: Int?
  /// What classifiers were fitted by; a raw value of ``ClassifierLoss``.
  public var classifierLoss: String
  /// How often exits agree with the full model, by layer.
  public var agreement: [Agreement]

  enum CodingKeys: String, CodingKey {
    case version, model, layers, ridge, agreement
    case modelDigest = "model_sha256"
    case headsDigest = "heads_sha256"
    case hiddenSize = "hidden_size"
    case shortlistSize = "shortlist_size"
    case fittedTokens = "fitted_tokens"
    case classifierTokens = "classifier_tokens"
    case heldOutTokens = "held_out_tokens"
    case refinementSteps = "refinement_steps"
    case classifierLoss = "classifier_loss"
  }

  static let currentVersion = 2

  /// The description's path for a file of heads.
  public static func path(for heads: String) -> String {
    URL(fileURLWithPath: heads).deletingPathExtension().appendingPathExtension("json").path
  }
}

extension ExitHeads {
  /// Reads heads and their description, and refuses heads of another model.
  ///
  /// - Parameters:
  ///   - path: The file of the heads; their description lies beside it.
  ///   - modelDigest: SHA-256 of the model's file or directory, which must be the description's.
  /// - Throws: ``EarlyExitError/exitHeads(_:)``, or `CheckpointError` for a damaged file.
  public init(path: String, modelDigest: String) throws {
    let beside = ExitHeadsDescription.path(for: path)
    let description: ExitHeadsDescription
    do {
      description = try JSONDecoder().decode(
        ExitHeadsDescription.self, from: Data(contentsOf: URL(fileURLWithPath: beside)))
    } catch {
      throw EarlyExitError.exitHeads("\(beside): it cannot be read as the description of exit heads")
    }
    guard description.version == ExitHeadsDescription.currentVersion else {
      throw EarlyExitError.exitHeads(
        "\(beside): version: expected \(ExitHeadsDescription.currentVersion), found \(description.version)")
    }
    let found = try FileDigest.sha256(path: path)
    guard found == description.headsDigest else {
      throw EarlyExitError.exitHeads(
        "\(path): its SHA-256 is \(found), but \(beside) says \(description.headsDigest)")
    }
    guard modelDigest == description.modelDigest else {
      throw EarlyExitError.exitHeads(
        "\(path): these exit heads are for the model \(description.model) with SHA-256 \(description.modelDigest), "
          + "but this one has \(modelDigest)")
    }
    try self.init(tensors: TensorFile.open(path), description: description, path: path)
  }

  /// Reads maps alone, which were trained together with a model.
  ///
  /// - Parameters:
  ///   - path: A file of safetensors with the tensors map.L, (hiddenSize in, hiddenSize out).
  ///   - layers: The layers L whose maps are wanted, where they are in the file.
  ///   - hiddenSize: Numbers of a hidden state.
  /// - Throws: ``EarlyExitError/exitHeads(_:)`` for maps of another shape or a file without any, or `CheckpointError`
  ///   for a damaged file.
  public static func maps(path: String, layers: [Int], hiddenSize: Int) throws -> [Int: LayerMap] {
    let tensors = try TensorFile.open(path)
    var maps: [Int: LayerMap] = [:]
    for layer in layers where tensors["map.\(layer)"] != nil {
      maps[layer] = try LayerMap(
        weights: values("map.\(layer)", [hiddenSize, hiddenSize], of: tensors, path: path),
        hiddenSize: hiddenSize)
    }
    guard !maps.isEmpty else {
      let names = layers.map { "map.\($0)" }.joined(separator: ", ")
      throw EarlyExitError.exitHeads("\(path): expected one of the tensors \(names), found none")
    }
    return maps
  }

  /// A tensor's numbers.
  private static func values(
    _ name: String, _ shape: [Int], of tensors: [String: MappedTensor], path: String
  ) throws -> [Float] {
    guard let tensor = tensors[name], tensor.shape == shape else {
      let found = tensors[name].map { "\($0.shape)" } ?? "none"
      throw EarlyExitError.exitHeads("\(path): tensor \(name): expected the shape \(shape), found \(found)")
    }
    let values = tensor.makeFloats()
    guard values.allSatisfy(\.isFinite) else {
      throw EarlyExitError.exitHeads("\(path): tensor \(name): expected finite numbers")
    }
    return values
  }

  private init(tensors: [String: MappedTensor], description: ExitHeadsDescription, path: String) throws {
    let size = description.hiddenSize
    func values(_ name: String, _ shape: [Int]) throws -> [Float] {
      try Self.values(name, shape, of: tensors, path: path)
    }
    guard size > 0, size <= 1 << 16 else {
      throw EarlyExitError.exitHeads("\(path): hidden_size: expected 1 to 65536, found \(size)")
    }
    guard (0...1 << 20).contains(description.shortlistSize) else {
      throw EarlyExitError.exitHeads(
        "\(path): shortlist_size: expected 0 to 1048576, found \(description.shortlistSize)")
    }
    var maps: [Int: LayerMap] = [:]
    var classifiers: [Int: ClassifierConfidence.Weights] = [:]
    var shortlist: [TokenID] = []
    if description.shortlistSize > 0 {
      shortlist = try values("shortlist", [description.shortlistSize]).map {
        guard let token = TokenID(exactly: $0) else {
          throw EarlyExitError.exitHeads("\(path): tensor shortlist: expected token numbers, found \($0)")
        }
        return token
      }
    }
    for layer in description.layers {
      // The last layer needs no map.
      if tensors["map.\(layer)"] != nil {
        maps[layer] = try LayerMap(weights: values("map.\(layer)", [size, size]), hiddenSize: size)
      }
      let classifier = try values("classifier.\(layer)", [size + 2])
      classifiers[layer] = .init(
        weights: Array(classifier[..<size]), bias: classifier[size], marginWeight: classifier[size + 1])
    }
    self.init(maps: maps, classifiers: classifiers, shortlist: shortlist)
  }

  /// Writes the heads and, beside them, their description.
  ///
  /// - Parameters:
  ///   - path: The file of the heads.
  ///   - description: Its hash of the heads is filled in.
  public func write(to path: String, description: ExitHeadsDescription) throws {
    var tensors: [TensorFile.Tensor] = []
    for (layer, map) in maps.sorted(by: { $0.key < $1.key }) {
      tensors.append(
        .init(name: "map.\(layer)", shape: [map.hiddenSize, map.hiddenSize], values: map.weights))
    }
    for (layer, classifier) in classifiers.sorted(by: { $0.key < $1.key }) {
      tensors.append(
        .init(
          name: "classifier.\(layer)", shape: [classifier.weights.count + 2],
          values: classifier.weights + [classifier.bias, classifier.marginWeight]))
    }
    if !shortlist.isEmpty {
      tensors.append(
        .init(
          name: "shortlist", shape: [shortlist.count], values: shortlist.map(Float.init),
          isSinglePrecision: true))
    }
    try TensorFile.write(tensors, to: path)
    var description = description
    description.headsDigest = try FileDigest.sha256(path: path)
    try CanonicalJSON.document(description).write(
      to: URL(fileURLWithPath: ExitHeadsDescription.path(for: path)), options: .atomic)
  }
}
