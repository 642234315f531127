import Transformers

/// How many sequences to decode at a time: the fewest that bring about all that more would.
///
/// A pass of many rows costs less than as many passes of one, up to where the machine computes instead of reading
/// weights. Where that is depends on the model, on its kernels and on the threads, so it is measured. How many fit into
/// memory is for ``BatchDecoder`` to see, which knows the lengths of the prompts.
public struct BatchWidth: Sendable, Equatable {
  /// Numbers of sequences that are tried.
  public static let tried = [4, 8, 16, 32]
  /// Sequences to decode at a time.
  public let width: Int
  /// Seconds of a pass, by sequences.
  public let seconds: [Int: Double]

  /// Measures passes of a model: two of each width, the faster one counts, until more sequences bring nothing.
  ///
  /// - Parameters:
  ///   - model: Whose passes.
  ///   - rows: Tokens of a sequence in a pass: 1, or more where drafts are verified.
  ///   - limit: The most sequences.
  ///   - shouldStop: Asked before each pass.
  /// - Throws: `DecoderError`.
  public init(
    measuring model: LanguageModel, rows: Int = 1, limit: Int = 32,
    shouldStop: () -> Bool = { Task.isCancelled }
  ) throws {
    let decoder = model.decoder
    let most = min(limit, decoder.invariantBatchLimit / max(rows, 1), model.contextLength / max(rows, 1))
    var seconds: [Int: Double] = [:]
    for count in Self.tried where count <= most && !model.hasEncoder {
      var best = Double.infinity
      for _ in 0..<2 where !shouldStop() {
        best = min(best, try Self.seconds(rows: count * max(rows, 1), decoder))
      }
      guard best < .infinity else { break }
      seconds[count] = best
      if Self.best(of: seconds) < count { break }
    }
    self.seconds = seconds
    width = max(1, min(seconds.isEmpty ? 16 : Self.best(of: seconds), limit))
  }

  /// The fewest sequences that bring at least 97 % of the tokens a second that any number brings; 1 for none.
  package static func best(of seconds: [Int: Double]) -> Int {
    let paces = seconds.map { (count: $0.key, pace: Double($0.key) / max($0.value, .leastNormalMagnitude)) }
    let fastest = paces.map(\.pace).max() ?? 0
    return paces.filter { $0.pace >= 0.97 * fastest }.map(\.count).min() ?? 1
  }

  /// What a pass of rows takes, each with its logits, as tokens of one sequence.
  private static func seconds(rows count: Int, _ decoder: any DecoderModel) throws -> Double {
    let configuration = decoder.configuration
    let states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: count)
    let cache = try decoder.makeCache(capacity: count)
    let tokens = (0..<count).map { ($0 * 7919 + 20) % configuration.vocabularySize }
    var logits: [Float] = []
    let start = ContinuousClock.now
    try decoder.embed(tokens, into: states)
    try decoder.advance(
      states, rows: (0..<count).map { BatchRow(cache: cache, position: $0) },
      layers: 0..<configuration.layerCount)
    try decoder.logits(of: states, rows: 0..<count, into: &logits)
    return (ContinuousClock.now - start).seconds
  }
}
