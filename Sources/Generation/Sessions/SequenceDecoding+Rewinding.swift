import Transformers

extension SequenceDecoding {
  /// The same sequence before its output: its cache holds the prompt, and what was found of it is known.
  package func rewound(model: LanguageModel, options: GenerationOptions) throws -> SequenceDecoding {
    let again = try SequenceDecoding(model: model, prompt: promptTokenIDs, options: options, cache: cache)
    (again.applicability, again.profile, again.stoppedAfter) = (applicability, profile, stoppedAfter)
    again.note(answerability: answerability)
    return again
  }

  /// The same sequence after its first tokens, to go on from there at full depth.
  ///
  /// Where the prompt's tokens stopped after a layer, it has a cache of its own, and prompt and kept tokens have to be
  /// read again first: see ``hasUnreadParts``. This sequence's cache stays as it is. Elsewhere it goes on in this one's
  /// cache.
  ///
  /// - Parameter count: Tokens of the output that are kept, at least one.
  package func cut(to count: Int, model: LanguageModel, options: GenerationOptions) throws -> SequenceDecoding
  {
    let kept = max(1, min(count, generated.count))
    let again: SequenceDecoding
    if stoppedAfter == nil {
      cache.crop(to: prompt.count + kept - 1)
      again = try rewound(model: model, options: options)
    } else {
      again = try SequenceDecoding(model: model, prompt: promptTokenIDs, options: options.atFullDepth)
      again.applicability = applicability
      again.note(answerability: answerability)
      // The last token's keys and values come with the token after it.
      again.readLimit = prompt.count + kept - 1
    }
    again.trippedAt = kept
    try again.replay(self, count: kept)
    return again
  }
}
