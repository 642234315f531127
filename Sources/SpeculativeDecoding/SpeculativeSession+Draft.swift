import DecoderModels
import EarlyExit

extension SpeculativeSession {
  /// Begins to decode with a small model that drafts for a large one.
  ///
  /// - Parameters:
  ///   - model: The large model.
  ///   - draft: The small model, with the same vocabulary.
  ///   - fallback: α_FB, in 0...1.
  ///   - rule: BiLD's rollback, or exact verification.
  ///   - draftLength: γ.
  /// - Throws: ``SpeculativeDecodingError`` for a pair that does not fit or settings out of range, and what a plain session
  ///   throws.
  public convenience init(
    model: LanguageModel, draft: LanguageModel, prompt: [TokenID],
    options: GenerationOptions = GenerationOptions(), fallback: Double = 0.6,
    rule: AcceptanceRule = .rollback(threshold: 2), draftLength: Int = 10,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws {
    try model.checkDraft(draft)
    guard prompt.count < draft.contextLength || (draft.hasEncoder && prompt.count == draft.contextLength)
    else {
      throw SpeculativeDecodingError.draftContext(
        draft: draft.name, context: draft.contextLength, prompt: prompt.count)
    }
    let capacity = min(model.contextLength, prompt.count + min(options.maxTokens, model.contextLength))
    try self.init(
      model: model, prompt: prompt, options: options,
      drafter: ModelDrafter(model: draft, fallback: fallback, capacity: capacity, source: prompt), rule: rule,
      draftLength: draftLength, shouldStop: shouldStop)
  }
}
