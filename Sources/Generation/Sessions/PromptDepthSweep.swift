import Tokenization
import Transformers

/// The outputs of a prompt whose tokens stop after each of some layers, see ``GenerationOptions/promptDepth``.
///
/// The prompt passes the layers once: below a depth nothing changes, and above it only its last tokens run again. All
/// outputs are then decoded together. Each is the one that decoding with that depth gives alone, to the bit; where it
/// begins to repeat itself and the options have a tripwire, prompt and output are read again at full depth.
public struct PromptDepthSweep {
  /// An output, and the depth that gives it.
  public struct Piece: Sendable {
    /// The layer after which tokens stop.
    public var depth: Int
    /// The output.
    public var generation: Generation
  }

  /// Depths to try unless others are asked for: from the last layer down to half of them, by steps of two.
  public static func usualDepths(layerCount: Int) -> [Int] {
    Array(stride(from: layerCount - 2, through: max(1, layerCount / 2 - 1), by: -2))
  }

  let model: LanguageModel
  /// Descending; the last layer, which is full depth, is the first of them.
  public let depths: [Int]

  /// Prepares a sweep.
  ///
  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - depths: In any order; full depth is always among them.
  /// - Throws: ``GenerationError/option(field:expected:found:)`` for a depth that the model does not have, and for an
  ///   encoder-decoder.
  public init(model: LanguageModel, depths: [Int]) throws {
    for depth in depths { try model.checkPromptDepth(depth, guard: nil) }
    self.model = model
    self.depths = Array(Set(depths + [model.promptDepths.upperBound])).sorted(by: >)
  }

  /// Runs a prompt at all depths.
  ///
  /// - Parameters:
  ///   - prompt: Tokens, at least one.
  ///   - options: How to decode; its depth is replaced by the sweep's. A guard has to read a layer that no depth is
  ///     below; a document that it finds outside has the output of full depth at every depth.
  ///   - shouldStop: Asked before each token.
  /// - Returns: Pieces by descending depth, the first of which is the full-depth run; `nil` when `shouldStop` said so.
  /// - Throws: ``GenerationError`` for a prompt that does not fit or a guard of another layer, `DecoderError`, and
  ///   the tokenizer's errors.
  public func run(
    _ prompt: [TokenID], options: GenerationOptions, shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> [Piece]? {
    let decoder = model.decoder
    let partial = depths.filter { $0 < decoder.configuration.layerCount }
    let read = try model.readPrompt(prompt, options: options, depths: partial, shouldStop: shouldStop)
    guard var sequences = read else { return nil }
    // What a tripwire has seen of the outputs after prompts that stopped.
    var watches = sequences.map { sequence in
      var watch = RepetitionWatch()
      for token in sequence.generated { watch.append(token) }
      return options.tripwire == nil || sequence.stoppedAfter == nil ? nil : watch
    }
    let runner = PassRunner()
    while true {
      let going = sequences.indices.filter { sequences[$0].pending != nil }
      if going.isEmpty { break }
      for start in stride(from: 0, to: going.count, by: decoder.invariantBatchLimit) {
        if shouldStop() { return nil }
        let places = going[start..<min(start + decoder.invariantBatchLimit, going.count)]
        let passes = try places.map { try sequences[$0].fullDepthPass(of: decoder) { _ in } }
        for outcome in runner.run(passes) {
          if let error = outcome.error { throw error }
        }
        for place in places {
          if let token = sequences[place].generated.last { watches[place]?.append(token) }
          guard let tripwire = options.tripwire, let watch = watches[place], watch.isTripped(tripwire) else {
            continue
          }
          watches[place] = nil
          sequences[place] = try sequences[place].cut(to: watch.safeCount, model: model, options: options)
          var buffers = DecodingBuffers(decoder: decoder)
          _ = try buffers.readPrompt(of: sequences[place], shouldStop: { false })
        }
      }
    }
    let outputs = sequences.map { $0.makeGeneration() }
    return depths.map { depth in
      // What has no output of its own has that of full depth.
      let place = partial.firstIndex(of: depth).map { $0 + 1 } ?? 0
      return Piece(depth: depth, generation: outputs.indices.contains(place) ? outputs[place] : outputs[0])
    }
  }
}
