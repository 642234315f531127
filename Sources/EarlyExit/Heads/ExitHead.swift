import DecoderModels

/// What turns hidden states of one sequence into logits: the model's own head, and those of the layers that tokens may
/// leave after.
package struct ExitHead {
  private let decoder: any DecoderModel
  private let heads: ExitHeads?
  private let scratch: HiddenStates
  /// (vocabularySize)
  package private(set) var logits: [Float] = []
  /// Bytes of weights read so far.
  package private(set) var bytesRead = 0

  package init(_ heads: ExitHeads?, decoder: any DecoderModel) {
    self.decoder = decoder
    self.heads = heads
    scratch = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: 1)
    scratch.count = 1
  }

  /// Bytes of weights that the head of a layer reads.
  package func byteCount(layer: Int) -> Int {
    4 * (heads?.maps[layer]?.weights.count ?? 0) + decoder.bytesOfUnembedding
  }

  /// The model's own head.
  package mutating func runFull(_ state: [Float]) throws(DecoderError) {
    scratch[0] = state
    try decoder.logits(of: scratch, rows: 0..<1, into: &logits)
    bytesRead += decoder.bytesOfUnembedding
  }

  /// The head of the layer that a token may leave after.
  package mutating func run(_ state: [Float], layer: Int) throws(DecoderError) {
    scratch[0] = heads?.maps[layer]?.apply(state) ?? state
    try decoder.logits(of: scratch, rows: 0..<1, into: &logits)
    bytesRead += byteCount(layer: layer)
  }

  /// Puts back logits that were there before.
  mutating func restore(_ logits: [Float]) { self.logits = logits }
}
