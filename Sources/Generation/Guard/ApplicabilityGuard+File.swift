import Checkpoints
import FileFormats
import Foundation

extension ApplicabilityGuard {
  /// How a certificate names its guard.
  public struct Reference: Codable, Sendable, Equatable {
    /// The name of the file, which lies beside the certificate.
    public var file: String
    /// SHA-256 of the file.
    public var digest: String
    /// Documents of the fit, and held back.
    public var fitted: Int
    /// Documents held back, which the others are compared with.
    public var heldBack: Int
    /// α
    public var level: Double

    enum CodingKeys: String, CodingKey {
      case file, fitted, level
      case digest = "sha256"
      case heldBack = "held_back"
    }

    /// What a certificate says of a guard.
    ///
    /// - Parameters:
    ///   - file: The name of the guard's file.
    ///   - digest: SHA-256 of the file.
    ///   - found: The guard.
    public init(file: String, digest: String, guard found: ApplicabilityGuard) {
      self.file = file
      self.digest = digest
      fitted = found.fittedCount
      heldBack = found.heldBackCount
      level = found.level
    }
  }

  /// Writes a file of safetensors, in one step. The same guard gives the same bytes.
  public func write(to path: String) throws {
    func digest(_ name: String, _ text: String) -> TensorFile.Tensor {
      let bytes = Self.bytes(text)
      return TensorFile.Tensor(
        name: name, shape: [bytes.count], values: bytes.map(Float.init), isSinglePrecision: true)
    }
    func numbers(_ name: String, _ shape: [Int], _ values: [Float]) -> TensorFile.Tensor {
      TensorFile.Tensor(name: name, shape: shape, values: values, isSinglePrecision: true)
    }
    try TensorFile.write(
      [
        numbers("center", [center.count], center),
        numbers("whitening", [fittedCount, center.count], whitening),
        numbers("settings", [3], [ridge, Float(level), Float(layer ?? 0)]),
        numbers("held_back", [heldBack.count], heldBack),
        digest("model_sha256", modelDigest), digest("documents_sha256", documentsDigest),
      ], to: path)
  }

  /// Reads a guard and refuses one of another model.
  ///
  /// - Parameters:
  ///   - path: The guard's file.
  ///   - modelDigest: SHA-256 of the model that it must be of.
  ///   - hiddenSize: Of the model.
  ///   - digest: SHA-256 that the file must have; `nil` for any.
  /// - Throws: ``GenerationError/applicability(_:)``, or `CheckpointError` for a file that is missing or cut.
  public init(path: String, modelDigest: String, hiddenSize: Int, digest: String? = nil) throws {
    let tensors = try TensorFile.open(path)
    func values(_ name: String, _ shape: [Int?]) throws -> [Float] {
      guard let tensor = tensors[name], tensor.shape.count == shape.count,
        zip(tensor.shape, shape).allSatisfy({ $1 == nil || $0 == $1 })
      else {
        let expected = shape.map { $0.map(String.init) ?? "n" }.joined(separator: ", ")
        throw GenerationError.applicability(
          "\(path): tensor \(name): expected the shape [\(expected)], found "
            + (tensors[name].map { "\($0.shape)" } ?? "none"))
      }
      let values = tensor.makeFloats()
      guard values.allSatisfy(\.isFinite) else {
        throw GenerationError.applicability("\(path): tensor \(name): expected finite numbers")
      }
      return values
    }
    let found = try Self.text(values("model_sha256", [32]))
    guard found == modelDigest else {
      throw GenerationError.applicability(
        "\(path): the guard is for another model: SHA-256 \(found), found \(modelDigest)")
    }
    if let digest {
      let own = try FileDigest.sha256(path: path)
      guard own == digest else {
        throw GenerationError.applicability(
          "\(path): it is not the guard that the certificate was made with: SHA-256 \(digest), found \(own)")
      }
    }
    let settings = try values("settings", [nil])
    let heldBack = try values("held_back", [nil])
    let whitening = try values("whitening", [nil, hiddenSize])
    // Guards that were made before had no layer: theirs is the last.
    let layer = settings.count == 3 ? Int(exactly: settings[2]) : settings.count == 2 ? 0 : nil
    guard let layer, layer >= 0, settings[0] > 0, settings[1] > 0, settings[1] < 1, !heldBack.isEmpty,
      !whitening.isEmpty,
      zip(heldBack, heldBack.dropFirst()).allSatisfy(<=)
    else {
      throw GenerationError.applicability(
        "\(path): expected a ridge above 0, a level between 0 and 1, a layer, and scores that rise")
    }
    self.init(
      modelDigest: found, documentsDigest: Self.text(try values("documents_sha256", [32])),
      layer: layer == 0 ? nil : layer, level: Double(settings[1]), center: try values("center", [hiddenSize]),
      whitening: whitening,
      ridge: settings[0], heldBack: heldBack)
  }

  /// The bytes that a text of hexadecimal digits spells.
  private static func bytes(_ text: String) -> [UInt8] {
    let digits = Array(text.utf8).map { UInt8(String(UnicodeScalar($0)), radix: 16) ?? 0 }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  private static func text(_ bytes: [Float]) -> String {
    let digits = Array("0123456789abcdef")
    return bytes.map { value in
      let byte = Int(min(max(value, 0), 255))
      return "\(digits[byte >> 4])\(digits[byte & 15])"
    }.joined()
  }
}
