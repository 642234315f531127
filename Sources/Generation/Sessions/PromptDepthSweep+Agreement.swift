import Tokenization
import Transformers

extension PromptDepthSweep {
  /// Along an output that is known, how many of its tokens each depth chooses as full depth does.
  ///
  /// Each token is chosen after the output's own tokens before it, so that one difference does not bring others.
  ///
  /// - Parameters:
  ///   - output: A prompt and its output, as full depth wrote it.
  ///   - shouldStop: Asked before each part of the prompt.
  /// - Returns: By ``depths``; the first of them is full depth, which agrees with itself everywhere. A prompt so short
  ///   that no token stops is the same at every depth. `nil` when `shouldStop` said so.
  /// - Throws: ``GenerationError`` for a prompt that does not fit, and `DecoderError`.
  public func agreement(
    along output: Generation, shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> [Int]? {
    let partial = depths.filter { $0 < model.decoder.configuration.layerCount }
    let options = GenerationOptions(maxTokens: max(output.tokenIDs.count, 1))
    let read = try model.readPrompt(
      output.promptTokenIDs, options: options, depths: partial, shouldStop: shouldStop)
    guard let sequences = read else { return nil }
    // Logits of a whole vocabulary for every row: few rows at a time.
    let states = HiddenStates(hiddenSize: model.decoder.configuration.hiddenSize, capacity: 32)
    let choices = try sequences.map { try self.choices(after: $0, output.tokenIDs.dropLast(), states) }
    return depths.indices.map { place in
      zip(choices[choices.indices.contains(place) ? place : 0], choices[0]).count { $0 == $1 }
    }
  }

  /// The most probable token after a prompt, and after each of these tokens that follow it.
  private func choices(
    after prompt: SequenceDecoding, _ tokens: ArraySlice<TokenID>, _ states: HiddenStates
  ) throws -> [TokenID] {
    let decoder = model.decoder
    var result = Array(prompt.makeGeneration().tokenIDs.prefix(1))
    var logits: [Float] = []
    for start in stride(from: 0, to: tokens.count, by: states.capacity) {
      let part = start..<min(start + states.capacity, tokens.count)
      try decoder.embed(Array(tokens[part]), into: states)
      let rows = part.map { BatchRow(cache: prompt.cache, position: prompt.promptTokenIDs.count + $0) }
      try decoder.advance(states, rows: rows, layers: 0..<decoder.configuration.layerCount)
      try decoder.logits(of: states, rows: 0..<part.count, into: &logits)
      let width = logits.count / part.count
      result += logits.withUnsafeBufferPointer { logits in
        part.indices.map { row in
          let start = (row - part.lowerBound) * width
          return Logits.argmax(UnsafeBufferPointer(rebasing: logits[start..<start + width]))
        }
      }
    }
    return result
  }
}
