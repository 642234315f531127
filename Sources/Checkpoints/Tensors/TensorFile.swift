import FileFormats
import Foundation
import TensorKernels

/// Named tensors in a safetensors file of any content: exit heads, classifiers.
public enum TensorFile {
  /// A tensor to be written.
  public struct Tensor: Sendable {
    /// The tensor's name in the file.
    public var name: String
    /// Outermost dimension first.
    public var shape: [Int]
    /// Row-major.
    public var values: [Float]
    /// Whether half precision is too coarse, as for token numbers.
    public var isSinglePrecision: Bool

    /// Makes a tensor; whether shape and values agree is checked when it is written.
    public init(name: String, shape: [Int], values: [Float], isSinglePrecision: Bool = false) {
      self.name = name
      self.shape = shape
      self.values = values
      self.isSinglePrecision = isSinglePrecision
    }
  }

  /// Opens a file; its tensors stay in the mapped file until they are read.
  ///
  /// - Throws: ``CheckpointError`` for a file that is missing, damaged, or holds anything but F32, F16 and BF16.
  public static func open(_ path: String) throws(CheckpointError) -> [String: MappedTensor] {
    try SafetensorsFile(MappedFile(path: path), ignoring: { _ in false }).tensors
  }

  /// Writes tensors in half precision, or single where they ask for it, in one step: a reader sees the old file or the
  /// whole new one.
  ///
  /// The same tensors give the same bytes.
  public static func write(_ tensors: [Tensor], to path: String) throws {
    var entries: [String] = []
    var data = Data()
    for tensor in tensors.sorted(by: { $0.name < $1.name }) {
      let start = data.count
      if tensor.isSinglePrecision {
        for value in tensor.values {
          withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
        }
      } else {
        for value in tensor.values {
          withUnsafeBytes(of: value.halfBits.littleEndian) { data.append(contentsOf: $0) }
        }
      }
      let type = tensor.isSinglePrecision ? "F32" : "F16"
      let name = String(decoding: try JSONEncoder().encode(tensor.name), as: UTF8.self)
      entries.append(
        "\(name):{\"dtype\":\"\(type)\",\"shape\":\(tensor.shape),\"data_offsets\":[\(start),\(data.count)]}")
    }
    var header = "{" + entries.joined(separator: ",") + "}"
    // Readers want the data aligned.
    while header.utf8.count % 8 != 0 { header += " " }
    var file = Data()
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { file.append(contentsOf: $0) }
    file.append(Data(header.utf8))
    try (file + data).write(to: URL(fileURLWithPath: path), options: .atomic)
  }
}

extension FileDigest {
  /// The SHA-256 of a model: of the file itself, or, for a model in several parts, of their names and hashes, or, for a
  /// directory, of the names and hashes of all its weights, vocabularies and settings: whatever can change an output.
  public static func sha256(model path: String) throws -> String {
    guard MappedFile.isDirectory(path) else {
      let parts = GGUFParts.paths(path)
      guard parts.count > 1 else { return try sha256(path: path) }
      let list = try parts.map { "\(try sha256(path: $0))  \(URL(fileURLWithPath: $0).lastPathComponent)\n" }
      return sha256(text: list.joined())
    }
    // Weights, vocabularies, and every setting: generation_config.json and tokenizer_config.json change outputs too.
    let names = try FileManager.default.contentsOfDirectory(atPath: path).filter { name in
      [".safetensors", ".json", ".model", ".jinja", ".txt"].contains { name.hasSuffix($0) }
    }
    let list = try names.sorted().map { "\(try sha256(path: path + "/" + $0))  \($0)\n" }.joined()
    return sha256(text: list)
  }
}
