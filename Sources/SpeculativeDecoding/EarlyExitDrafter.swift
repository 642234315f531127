import DecoderModels
import EarlyExit

/// Drafts with the large model's own first layers and the exit head after them (self-speculation; Elhoushi et al.,
/// "LayerSkip", ACL 2024).
///
/// Nothing is run twice: drafting leaves the keys and values of the first layers in the large model's cache and the rows'
/// hidden states after them, and verifying goes on from there.
public final class EarlyExitDrafter: Drafter {
  public let profile: DrafterProfile

  private let model: LanguageModel
  private let layer: Int
  private let map: ExitHeads.LayerMap?
  private let fallback: FallbackThreshold
  private let scratch: HiddenStates
  private var logits: [Float] = []

  /// - Parameters:
  ///   - model: The large model.
  ///   - layer: Layers to draft with, in 1..<layerCount.
  ///   - heads: Fitted heads; without a map for `layer` the model's own head is used.
  ///   - fallback: α_FB, in 0...1: the draft ends before the first token that the exit head finds less probable.
  /// - Throws: ``SpeculativeDecodingError`` for settings out of range, `EarlyExitError` for heads of another shape.
  public init(model: LanguageModel, layer: Int, heads: ExitHeads? = nil, fallback: Double = 0.6) throws {
    let configuration = model.decoder.configuration
    guard (1..<max(configuration.layerCount, 1)).contains(layer) else {
      throw SpeculativeDecodingError.option(
        field: "draft-layer", expected: "in 1...\(configuration.layerCount - 1), the layers before the last",
        found: "\(layer)")
    }
    try heads?.check(hiddenSize: configuration.hiddenSize, layerCount: configuration.layerCount)
    self.model = model
    self.layer = layer
    self.fallback = try FallbackThreshold(fallback)
    map = heads?.maps[layer]
    scratch = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: 1)
    let all = Double(max(model.bytesPerToken, 1))
    let early = Double(layer * model.decoder.bytesPerLayer)
    let head = Double(model.decoder.bytesOfUnembedding + 4 * (map?.weights.count ?? 0))
    profile = DrafterProfile(
      writer: .draft, costPerToken: (early + head) / all, verifiedShare: (all - early) / all)
  }

  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft {
    var draft = Draft(layer: layer)
    guard limit > 0, var next = history.last else { return Draft() }
    while true {
      let row = draft.tokens.count
      try model.decoder.embed([next], into: scratch)
      try model.decoder.advance(
        scratch, rows: [BatchRow(cache: target.cache, position: history.count - 1 + row)], layers: 0..<layer)
      target.states.copyRow(0, of: scratch, to: row)
      target.states.count = row + 1
      // Nothing is to be expected after an end token.
      guard row < limit, !model.endTokens.contains(next) else { return draft }
      if let map { scratch[0] = map.apply(scratch[0]) }
      try model.decoder.logits(of: scratch, rows: 0..<1, into: &logits)
      guard let token = logits.withUnsafeBufferPointer(fallback.draft) else { return draft }
      draft.tokens.append(token)
      next = token
    }
  }

  public func crop(to count: Int) {}
}
