import EarlyExit
import Generation
import Transformers

/// Drafts with the large model's own first layers and the exit head after them (self-speculation; Elhoushi et al.,
/// "LayerSkip", ACL 2024).
///
/// Nothing is run twice: drafting leaves the keys and values of the first layers in the large model's cache and the
/// rows' hidden states after them, and verifying goes on from there.
public final class EarlyExitDrafter: Drafter {
  /// Its price is that of the first layers and of the exit's head.
  public let profile: DrafterProfile

  private let model: LanguageModel
  private let layer: Int
  private let prompt: [TokenID]
  private let fallback: FallbackThreshold
  private let scratch: HiddenStates
  private var head: ExitHead

  /// - Parameters:
  ///   - model: The large model.
  ///   - prompt: What the history begins with; reduced heads choose from its tokens too.
  ///   - layer: Layers to draft with, in 1..<layerCount.
  ///   - heads: Fitted heads; without a map for `layer` and without a shortlist the model's own head is used.
  ///   - fallback: α_FB, in 0...1: the draft ends before the first token that the exit head finds less probable.
  /// - Throws: ``SpeculativeDecodingError`` for settings out of range, `EarlyExitError` for heads of another shape.
  public init(
    model: LanguageModel, prompt: [TokenID], layer: Int, heads: ExitHeads? = nil, fallback: Double = 0.6
  ) throws {
    let configuration = model.decoder.configuration
    guard (1..<max(configuration.layerCount, 1)).contains(layer) else {
      throw SpeculativeDecodingError.option(
        field: "draft-layer", expected: "in 1...\(configuration.layerCount - 1), the layers before the last",
        found: "\(layer)")
    }
    try heads?.check(model.decoder)
    self.model = model
    self.layer = layer
    self.fallback = try FallbackThreshold(fallback)
    self.prompt = prompt
    head = try ExitHead(heads, decoder: model.decoder)
    scratch = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: 1)
    let all = Double(max(model.bytesPerToken, 1))
    let early = Double(layer * model.decoder.bytesPerLayer)
    profile = DrafterProfile(
      writer: .draft, costPerToken: (early + Double(head.byteCount(layer: layer))) / all,
      verifiedShare: (all - early) / all)
  }

  /// Drafts with the first layers until the exit is unsure.
  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft {
    var draft = Draft(layer: layer)
    guard limit > 0, var next = history.last else { return Draft() }
    var headBytes = head.bytesRead
    while true {
      let row = draft.tokens.count
      try model.decoder.embed([next], into: scratch)
      try model.decoder.advance(
        scratch, rows: [BatchRow(cache: target.cache, position: history.count - 1 + row)], layers: 0..<layer)
      target.states.copyRow(0, of: scratch, to: row)
      target.states.count = row + 1
      draft.bytesRead += layer * model.decoder.bytesPerLayer
      // Nothing is to be expected after an end token.
      guard row < limit, !model.endTokens.contains(next) else { return draft }
      try head.run(scratch[0], layer: layer, prompt: prompt)
      draft.bytesRead += head.bytesRead - headBytes
      headBytes = head.bytesRead
      let token = head.logits.withUnsafeBufferPointer { fallback.draft($0, of: head.candidates) }
      guard let token else { return draft }
      draft.tokens.append(token)
      next = token
    }
  }

  /// Does nothing: the cache is the large model's, and the session crops it.
  public func crop(to count: Int) {}
}
