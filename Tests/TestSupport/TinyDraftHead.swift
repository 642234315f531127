import Checkpoints
import FileFormats
import Foundation

/// A draft head for a tiny decoder of 32-bit weights: two multiples of the identity and the decoder's last layer.
public struct TinyDraftHead {
  public var tensors: [TensorFile.Tensor]
  private let size: Int
  /// What is written beside it, with the hashes.
  public var description: [String: Any] = ["draft_head_version": 2, "model": "Tiny"]

  /// - Parameters:
  ///   - gguf: The decoder's file.
  ///   - token: What the map of embeddings is, in identities.
  ///   - state: What the map of states is.
  ///   - layer: By what the layer's outputs are multiplied.
  public init(
    of decoder: TinyDecoder, gguf: GGUFBuilder, token: Float, state: Float, layer: Float = 1,
    shortlist: [Int] = []
  ) {
    let size = decoder.hiddenSize
    let prefix = "blk.\(decoder.layerCount - 1)."
    tensors = gguf.tensors.filter { $0.name.hasPrefix(prefix) }.map { tensor in
      let isOutput = tensor.name.contains("attn_output") || tensor.name.contains("ffn_down")
      return TensorFile.Tensor(
        name: "blk.0." + tensor.name.dropFirst(prefix.count),
        shape: tensor.dimensions.reversed().map { Int($0) },
        values: tensor.floats.map { isOutput ? layer * $0 : $0 }, isSinglePrecision: true)
    }
    self.size = size
    tensors += [identity("map.state", state), identity("map.token", token)]
    if !shortlist.isEmpty {
      tensors.append(
        .init(
          name: "shortlist", shape: [shortlist.count], values: shortlist.map(Float.init),
          isSinglePrecision: true))
    }
  }

  private func identity(_ name: String, _ scale: Float) -> TensorFile.Tensor {
    .init(
      name: name, shape: [size, size],
      values: (0..<size * size).map { $0 % (size + 1) == 0 ? scale : 0 }, isSinglePrecision: true)
  }

  /// A map of the states after a lower layer.
  public mutating func addMap(layer: Int, _ scale: Float = 1) {
    tensors.append(identity("map.state.\(layer)", scale))
  }

  /// Writes `name`.safetensors and `name`.json.
  ///
  /// - Returns: The head's path.
  @discardableResult
  public func write(to directory: TemporaryDirectory, name: String = "head", modelPath: String) throws
    -> String
  {
    let path = "\(directory.path)/\(name).safetensors"
    try TensorFile.write(tensors, to: path)
    let hashes: [String: Any] = [
      "model_sha256": try FileDigest.sha256(model: modelPath),
      "head_sha256": try FileDigest.sha256(path: path),
    ]
    let all = hashes.merging(description) { $1 }.filter { !($0.value is NSNull) }
    try JSONSerialization.data(withJSONObject: all).write(
      to: URL(fileURLWithPath: "\(directory.path)/\(name).json"))
    return path
  }
}

extension GGUFBuilder.Tensor {
  /// Numbers of a tensor of F32.
  public var floats: [Float] {
    bytes.withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
  }
}
