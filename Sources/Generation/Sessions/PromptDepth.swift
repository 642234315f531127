import Transformers

/// The tokens of a prompt that stop after a layer, while they are read.
///
/// Of a token of the prompt others need keys and values, not a prediction. So all but the last ones may stop after a
/// layer; in the layers above, their keys and values are projected from the state there (state propagation; Schuster et
/// al., NeurIPS 2022, section 3.2; for prompts, Qiao et al., "SwiftKV", 2024). The last ones, which ask the question
/// and begin the output, pass all layers.
struct PromptDepthReading {
  /// The layer after which tokens stop.
  let layer: Int
  /// Tokens, from the first on, that go no deeper.
  let shallowCount: Int
  /// (tokens read, hiddenSize): states after ``layer``.
  private var states: [Float] = []
  /// The same after layers below it, those that drafters read.
  private var lower: [Int: [Float]] = [:]
  private var finishedCount = 0
  private let promptCount: Int
  private let hiddenSize: Int

  /// The last tokens of a prompt, which pass all layers: enough for most questions and the template around them.
  static let deepTokens = 32

  /// - Returns: `nil` where all tokens pass all layers.
  init?(_ layer: Int, prompt count: Int, of model: LanguageModel) {
    guard layer < model.decoder.configuration.layerCount, count > Self.deepTokens else { return nil }
    self.layer = layer
    promptCount = count
    shallowCount = count - Self.deepTokens
    hiddenSize = model.decoder.configuration.hiddenSize
    states.reserveCapacity(count * hiddenSize)
  }

  /// The next tokens, all of which have been read, whose way goes on.
  var nextPart: Range<Int>? {
    guard finishedCount < promptCount else { return nil }
    return finishedCount..<min(finishedCount + DecodingBuffers.prefillChunk, promptCount)
  }

  /// Keeps the rows in use.
  ///
  /// - Parameter watched: The same rows after other layers; those below ``layer`` are kept too.
  mutating func keep(_ read: HiddenStates, watched: [Int: HiddenStates] = [:]) {
    for row in 0..<read.count { states += read[row] }
    for (below, found) in watched where below < layer {
      for row in 0..<found.count { lower[below, default: []] += found[row] }
    }
  }

  /// Puts the states of tokens into rows.
  ///
  /// - Parameter layer: After which layer, where that is below the one after which they stopped and was kept. For any
  ///   other layer their last states stand, since there are no deeper ones.
  func take(_ range: Range<Int>, after layer: Int? = nil, into target: HiddenStates) {
    let kept = layer.flatMap { lower[$0] } ?? states
    target.count = range.count
    for (row, token) in range.enumerated() {
      target[row] = Array(kept[token * hiddenSize..<(token + 1) * hiddenSize])
    }
  }

  /// Notes that tokens are through; after the last of them nothing is kept.
  mutating func finish(_ part: Range<Int>) {
    finishedCount = part.upperBound
    if finishedCount == promptCount { (states, lower) = ([], [:]) }
  }
}

extension LanguageModel {
  /// The last tokens of a prompt, which pass all layers wherever the others stop.
  public static var deepPromptTokens: Int { PromptDepthReading.deepTokens }

  /// Layers after which tokens of a prompt may stop: up to the last, which is full depth.
  public var promptDepths: ClosedRange<Int> { 1...decoder.configuration.layerCount }

  /// - Throws: ``GenerationError/option(field:expected:found:)`` for a depth that the model does not have, for one
  ///   below the layer that a guard reads, and for an encoder-decoder.
  package func checkPromptDepth(_ depth: Int, guard applicability: ApplicabilityGuard?)
    throws(GenerationError)
  {
    guard !hasEncoder else {
      throw .option(
        field: "prompt-depth", expected: "absent for an encoder-decoder, whose encoder reads the prompt",
        found: "\(depth)")
    }
    let layers = max(promptDepths.lowerBound, applicability?.layer ?? 1)...promptDepths.upperBound
    guard layers.contains(depth),
      applicability == nil || applicability?.layer != nil || depth == layers.upperBound
    else {
      throw .option(
        field: "prompt-depth",
        expected: applicability == nil
          ? "in \(layers)" : "in \(layers), with a guard that reads a layer up to it",
        found: "\(depth)")
    }
  }

  /// Reads a prompt through all layers, and as it is read where its tokens stop after each of some layers.
  ///
  /// The prompt passes the layers once: below a depth nothing changes, and above it only its last tokens run again.
  /// Each sequence is the one that reading with that depth gives alone, to the bit.
  ///
  /// - Parameters:
  ///   - prompt: Tokens, at least one.
  ///   - options: How to decode; its own depth does not count.
  ///   - depths: Layers below the last.
  ///   - shouldStop: Asked before each part of the prompt.
  /// - Returns: The sequence of full depth, then those of the depths; that of full depth alone for a prompt so short
  ///   that no token stops, and for one that the guard finds outside. Each has its first token. `nil` when `shouldStop`
  ///   said so.
  /// - Throws: ``GenerationError`` for a prompt that does not fit, a depth that the model does not have and one below
  ///   the layer that the guard reads; `DecoderError`, and the tokenizer's errors.
  package func readPrompt(
    _ prompt: [TokenID], options: GenerationOptions, depths: [Int], shouldStop: () -> Bool
  ) throws -> [SequenceDecoding]? {
    for depth in depths { try checkPromptDepth(depth, guard: options.applicability) }
    var options = options
    options.promptDepth = nil
    let depths = prompt.count > PromptDepthReading.deepTokens ? depths : []
    var buffers = DecodingBuffers(decoder: decoder, watching: Set(depths))
    let full = try SequenceDecoding(model: self, prompt: prompt, options: options)
    var states: [Int: PromptDepthReading] = [:]
    for depth in depths { states[depth] = PromptDepthReading(depth, prompt: prompt.count, of: self) }
    let watched = buffers.watched
    guard
      try buffers.readPrompt(
        of: full, shouldStop: shouldStop,
        observe: { _ in
          for depth in depths {
            if let read = watched[depth] { states[depth]?.keep(read) }
          }
        })
    else { return nil }
    full.lookAtPrompt()
    var sequences = [full]
    _ = try buffers.finishPrompt(of: full)
    guard full.isCovered else { return sequences }
    for depth in depths {
      if shouldStop() { return nil }
      let cache = try decoder.makeCache(capacity: full.cache.capacity)
      _ = cache.copyBeginning(of: full.cache, count: prompt.count)
      let sequence = try SequenceDecoding(model: self, prompt: prompt, options: options, cache: cache)
      sequence.applicability = full.applicability
      // Below the depth nothing changes; above it the last token is looked at again.
      if (sequence.answerabilityLayer ?? 0) <= depth { sequence.note(answerability: full.answerability) }
      while let part = states[depth]?.nextPart {
        guard let reading = states[depth] else { break }
        try buffers.finish(part, of: sequence, as: reading)
        states[depth]?.finish(part)
      }
      sequence.stoppedAfter = depth
      sequences.append(sequence)
      _ = try buffers.finishPrompt(of: sequence)
    }
    return sequences
  }
}
