import Checkpoints
import EarlyExit

/// The sizes of a model that decide what its parts cost.
struct ModelShape: Sendable {
  /// Layers.
  var layerCount: Int
  /// Numbers of a hidden state.
  var hiddenSize: Int
  /// Numbers between the two products of a feed-forward block.
  var feedForwardSize: Int
  /// Numbers of all heads of queries.
  var attentionSize: Int
  /// Numbers of all heads of keys.
  var keyValueSize: Int
  /// Tokens of the whole vocabulary.
  var vocabularySize: Int

  /// That of a model.
  init(_ configuration: DecoderConfiguration) {
    layerCount = configuration.layerCount
    hiddenSize = configuration.hiddenSize
    feedForwardSize = configuration.feedForwardSize
    attentionSize = configuration.headCount * configuration.headSize
    keyValueSize = configuration.keyValueHeadCount * configuration.headSize
    vocabularySize = configuration.vocabularySize
  }

  private init(_ layers: Int, _ hidden: Int, _ feedForward: Int, _ keyValue: Int, _ vocabulary: Int) {
    layerCount = layers
    hiddenSize = hidden
    feedForwardSize = feedForward
    attentionSize = hidden
    keyValueSize = keyValue
    vocabularySize = vocabulary
  }

  /// Llama 3.2 1B and Llama 2 7B.
  static let larger = [
    ("16 layers of 2,048, vocabulary 128,256 (1B)", ModelShape(16, 2048, 8192, 512, 128_256)),
    ("32 layers of 4,096, vocabulary 32,000 (7B)", ModelShape(32, 4096, 11008, 4096, 32_000)),
  ]

  /// What its parts cost in bytes, of weights with 5 bits in layers where a decoder does not say better.
  ///
  /// - Parameters:
  ///   - shortlist: Tokens that an exit chooses from; 0 for the whole vocabulary.
  ///   - bytesPerLayer: What a decoder says of a layer.
  ///   - head: What it says of its unembedding.
  func costs(shortlist: Int, bytesPerLayer: Int? = nil, head: Int? = nil) -> ExitCosts {
    var costs = ExitCosts.bytes(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, attentionSize: attentionSize,
      keyValueSize: keyValueSize, vocabularySize: vocabularySize, bitsPerWeight: 5, shortlist: shortlist)
    if let bytesPerLayer, let one = costs.layer.first, one > 0 {
      let scale = Double(bytesPerLayer) / one
      costs.layer = costs.layer.map { $0 * scale }
      costs.propagatedLayer *= scale
    }
    if let head { costs.head = Double(head) }
    return costs
  }
}
