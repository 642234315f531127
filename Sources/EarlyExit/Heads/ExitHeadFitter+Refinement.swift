import Generation
import Transformers

extension ExitHeadFitter {
  /// Tokens of a step, and the largest step, which falls to 0 along a straight line.
  private static let batch = 256
  private static let rate: Float = 2e-4
  /// Times at which held-out text is looked at.
  private static let checks = 4

  /// By layer, how often the maps' best tokens are the full model's on what was held out.
  func agreement(_ maps: [Int: ExitHeads.LayerMap], _ shortlist: [TokenID]) throws -> [Int: Double] {
    let heads = try PreparedHeads(ExitHeads(maps: maps, shortlist: shortlist), decoder: decoder)
    return try Dictionary(
      uniqueKeysWithValues: maps.keys.map { layer in
        let choices = try heldOut.choices(decoder, layer: layer, heads: heads)
        let right = zip(choices, heldOut.best).count { $0.token == $1 }
        return (layer, Double(right) / Double(max(heldOut.count, 1)))
      })
  }

  /// Goes on from the regression by gradient steps on the divergence from the full model, and keeps, per layer, the map
  /// that agreed most often with it on held-out text.
  func refine(
    _ maps: [Int: ExitHeads.LayerMap], _ shortlist: [TokenID], agreement: [Int: Double],
    shouldStop: (_ layer: Int, _ step: Int) throws -> Void
  ) throws -> [Int: ExitHeads.LayerMap] {
    let last = decoder.configuration.layerCount
    let tokens = shortlist.isEmpty ? Array(0..<decoder.configuration.vocabularySize) : shortlist
    var kept = maps
    for layer in layers where trainedMaps[layer] == nil {
      guard let map = maps[layer] else { continue }
      var refinement = try MapRefinement(map.weights, tokens: tokens, decoder: decoder)
      var best = agreement[layer] ?? 0
      var random = SamplingGenerator(seed: UInt64(layer))
      for step in 1...refinementSteps {
        try shouldStop(layer, step)
        let rows = (0..<Self.batch).map { _ in Int(random.uniform() * Double(training.count)) }
        refinement.step(
          inputs: training.states(at: rows, layer: layer), finals: training.states(at: rows, layer: last),
          rate: Self.rate * (1 - Float(step - 1) / Float(refinementSteps)))
        guard step % max(refinementSteps / Self.checks, 1) == 0 || step == refinementSteps else { continue }
        let candidate = try ExitHeads.LayerMap(weights: refinement.weights, hiddenSize: map.hiddenSize)
        let found = try self.agreement([layer: candidate], shortlist)[layer] ?? 0
        if found > best {
          best = found
          kept[layer] = candidate
        }
      }
    }
    return kept
  }
}
