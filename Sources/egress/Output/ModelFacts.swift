import Checkpoints
import Generation
import Transformers

/// What `inspect` shows.
struct ModelFacts: Encodable {
  struct Tensor: Encodable {
    var name: String
    /// Rows first.
    var shape: [Int]
    var format: String
    var bytes: Int
  }

  var path: String
  var name: String
  var family: String
  var layers: Int
  /// Those of the encoder, where there is one.
  var encoderLayers: Int?
  var hiddenSize: Int
  var feedForwardSize: Int
  var heads: Int
  var keyValueHeads: Int
  var headSize: Int
  var vocabularySize: Int
  var contextLength: Int
  var tiedEmbedding: Bool
  var promptTemplate: String?
  /// How documents are asked about; `nil` for an encoder-decoder.
  var prompts: PromptStyle?
  /// The layer that tells whether a document answers a question; `nil` where the model's own words do.
  var answerabilityLayer: Int?
  var endTokenIds: [TokenID]
  var parameters: Int
  /// Bytes of weights that one token reads: each layer's, the unembedding's, and one row of the embedding.
  var bytesPerToken: Int
  var bytesPerLayer: Int
  var bytesOfUnembedding: Int
  var tensors: [Tensor]

  init(_ checkpoint: Checkpoint) throws {
    let configuration = checkpoint.configuration
    let text = try TextFacts(checkpoint)
    path = checkpoint.path
    name = configuration.name
    family = configuration.family.rawValue
    layers = configuration.layerCount
    encoderLayers = configuration.encoder?.layerCount
    hiddenSize = configuration.hiddenSize
    feedForwardSize = configuration.feedForwardSize
    heads = configuration.headCount
    keyValueHeads = configuration.keyValueHeadCount
    headSize = configuration.headSize
    vocabularySize = configuration.vocabularySize
    contextLength = configuration.contextLength
    tiedEmbedding = configuration.hasTiedEmbedding
    promptTemplate = text.template?.name
    prompts = configuration.encoder == nil ? text.promptStyle : nil
    answerabilityLayer = text.answerability?.layer
    endTokenIds = text.endTokens.sorted()
    let all = try checkpoint.tensorNames.map { try checkpoint.tensor($0) }
    tensors = all.map {
      Tensor(name: $0.name, shape: $0.shape, format: $0.format.name, bytes: $0.byteCount)
    }
    parameters = all.reduce(0) { $0 + $1.elementCount }
    // Of an encoder-decoder, a token reads the decoder, but keys and values of the source are there already.
    let isPair = configuration.encoder != nil
    let layerBytes = all.filter {
      $0.name.hasPrefix(isPair ? "dec.blk." : "blk.")
        && !["cross_attn_k.weight", "cross_attn_v.weight"].contains(where: $0.name.hasSuffix)
    }.reduce(0) { $0 + $1.byteCount }
    bytesPerLayer = layerBytes / max(1, layers)
    let embedding = try checkpoint.tensor("token_embd.weight")
    let unembedding = tiedEmbedding ? embedding : try checkpoint.tensor("output.weight")
    bytesOfUnembedding = unembedding.byteCount
    let row = embedding.byteCount / max(1, vocabularySize)
    bytesPerToken =
      layerBytes + bytesOfUnembedding + row
      + (try checkpoint.tensor(isPair ? "dec.output_norm.weight" : "output_norm.weight").byteCount)
  }

  var text: String {
    var lines = [
      "path              \(path)",
      "name              \(name)",
      "family            \(family)",
      "layers            \(layers)\(encoderLayers.map { ", after \($0) of the encoder" } ?? "")",
      "hidden size       \(hiddenSize)",
      "feed-forward size \(feedForwardSize)",
      "heads             \(heads), \(keyValueHeads) for keys and values, \(headSize) numbers each",
      "vocabulary        \(vocabularySize.grouped)\(tiedEmbedding ? ", tied embedding" : "")",
      "context           \(contextLength.grouped) tokens",
      "prompt template   \(promptTemplate ?? "not known")"
        + (prompts.map { ", documents in the style \($0.rawValue)" } ?? "")
        + (answerabilityLayer.map { "; layer \($0) tells which questions they answer" } ?? ""),
      "end tokens        \(endTokenIds.map(String.init).joined(separator: ", "))",
      "parameters        \(parameters.grouped)",
      "bytes per token   \(bytesPerToken.grouped): "
        + "\(layers) layers of \(bytesPerLayer.grouped), unembedding \(bytesOfUnembedding.grouped)",
      "tensors           \(tensors.count)",
    ]
    for tensor in tensors {
      let shape = tensor.shape.map(String.init).joined(separator: "×")
      lines.append("  \(tensor.name)\t\(shape)\t\(tensor.format)\t\(tensor.bytes.grouped)")
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
