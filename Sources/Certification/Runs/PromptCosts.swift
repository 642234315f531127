import Transformers

/// What reading a prompt and writing an output cost, in milliseconds measured on one machine.
public struct PromptCosts: Codable, Sendable, Equatable {
  /// A prompt's token through one layer, read among 256.
  public var layer: Double
  /// Its keys and values of one layer alone.
  public var propagatedLayer: Double
  /// A token of the output.
  public var token: Double

  enum CodingKeys: String, CodingKey {
    case layer = "prompt_layer"
    case propagatedLayer = "prompt_propagated_layer"
    case token = "output_token"
  }

  /// Costs that are known.
  public init(layer: Double, propagatedLayer: Double, token: Double) {
    self.layer = layer
    self.propagatedLayer = propagatedLayer
    self.token = token
  }

  /// Measures a decoder on this machine; each figure is the best of several rounds.
  ///
  /// - Throws: `DecoderError`, also when the model's context is too short for the measurement.
  public static func measured(_ decoder: any DecoderModel, rounds: Int = 5) throws -> PromptCosts {
    let configuration = decoder.configuration
    let layers = 0..<configuration.layerCount
    let count = max(1, min(256, configuration.contextLength - 1))
    let states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: count)
    let cache = try decoder.makeCache(capacity: count + 1)
    let tokens = (0..<count).map { ($0 * 7919 % 40_000 + 20) % configuration.vocabularySize }
    let rows = tokens.indices.map { BatchRow(cache: cache, position: $0) }
    var best = [Double](repeating: .infinity, count: 3)
    var logits: [Float] = []
    // The parts in turn, so that what else the machine does for a while falls on all of them.
    for _ in 0..<max(rounds, 1) {
      let works: [() throws -> Void] = [
        { try decoder.advance(states, rows: rows, layers: layers) },
        { try decoder.propagate(states, rows: rows, layers: layers) },
        {
          try decoder.embed([tokens[0]], into: states)
          try decoder.advance(states, rows: [BatchRow(cache: cache, position: count)], layers: layers)
          try decoder.logits(of: states, rows: 0..<1, into: &logits)
        },
      ]
      cache.crop(to: 0)
      try decoder.embed(tokens, into: states)
      for (index, work) in works.enumerated() {
        let start = ContinuousClock.now
        try work()
        best[index] = min(best[index], (ContinuousClock.now - start).seconds * 1000)
      }
    }
    let share = Double(count * configuration.layerCount)
    return PromptCosts(layer: best[0] / share, propagatedLayer: best[1] / share, token: best[2])
  }

  /// A prompt and its output.
  func milliseconds(of work: PromptWork) -> Double {
    Double(work.layer) * layer + Double(work.propagatedLayer) * propagatedLayer + Double(work.token) * token
  }
}

/// What a document costs whose prompt's tokens may stop after a layer and whose output's tokens leave early or are
/// drafted, in milliseconds measured on one machine.
public struct DocumentCosts<Output: Codable & Sendable & Equatable>: Codable, Sendable, Equatable {
  /// Of reading prompts.
  public var prompt: PromptCosts
  /// Of the tokens of outputs.
  public var output: Output

  /// Costs that are known.
  public init(prompt: PromptCosts, output: Output) {
    self.prompt = prompt
    self.output = output
  }
}
