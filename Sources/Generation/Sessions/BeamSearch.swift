import RealModule
import Transformers

/// How many outputs are followed at a time, and how they are compared.
public struct BeamSearch: Sendable, Equatable {
  /// Outputs followed, in ``BeamSearch/beamCounts``.
  public var beams: Int
  /// An output's log-probability is divided by its length in tokens to this power: above 0, longer outputs gain.
  public var lengthPenalty: Double

  /// The number of beams that can be asked for.
  public static let beamCounts = 1...64

  /// Sets the search; both numbers are checked when decoding begins.
  public init(beams: Int, lengthPenalty: Double = 1) {
    self.beams = beams
    self.lengthPenalty = lengthPenalty
  }

  func validate() throws(GenerationError) {
    guard Self.beamCounts.contains(beams) else {
      throw .option(field: "beams", expected: "in \(Self.beamCounts)", found: "\(beams)")
    }
    guard lengthPenalty.isFinite, abs(lengthPenalty) <= 100 else {
      throw .option(field: "length-penalty", expected: "in -100...100", found: "\(lengthPenalty)")
    }
  }
}

extension BeamSearch: DecodingStrategy {
  /// Begins a search. Its output comes with the last step, as beams may change until then.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    if let cache = options.promptCache {
      throw GenerationError.option(field: "prompt-cache", expected: "absent with beams", found: cache.path)
    }
    return BeamSearchSession(
      model: model, prompt: prompt, options: options, search: self, shouldStop: shouldStop)
  }
}

/// A beam search as a session: the whole output is its one step, for which beam wins is known at the end only.
private final class BeamSearchSession: GenerationSession {
  private let model: LanguageModel
  private let prompt: [TokenID]
  private let options: GenerationOptions
  private let search: BeamSearch
  private let shouldStop: () -> Bool
  private(set) var generation: Generation
  private(set) var timings = SessionTimings()
  private(set) var stopReason: StopReason?
  let cancelledText = ""

  init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, search: BeamSearch,
    shouldStop: @escaping () -> Bool
  ) {
    self.model = model
    self.prompt = prompt
    self.options = options
    self.search = search
    self.shouldStop = shouldStop
    generation = Generation(text: "", tokenIDs: [], promptTokenIDs: prompt, stopReason: .cancelled)
  }

  func next() throws -> TokenStep? {
    guard stopReason == nil else { return nil }
    let start = ContinuousClock.now
    let found = try model.generate(prompt: prompt, search: search, options: options, shouldStop: shouldStop)
    timings.decode = (ContinuousClock.now - start).seconds
    generation = found ?? generation
    stopReason = generation.stopReason
    guard let last = generation.tokenIDs.last, let layer = generation.layers.last else { return nil }
    return TokenStep(id: last, text: generation.text, layer: layer, stopReason: stopReason)
  }
}

/// An output under way, or one that has ended.
private struct Beam {
  var tokens: [TokenID]
  /// Log-probability while under way, divided by a power of the length once ended.
  var score: Double
  /// Of each token.
  var logProbabilities: [Double] = []
  /// What may follow; `nil` for every token.
  var constraints: TokenConstraints?

  /// The beam with one more token.
  func adding(_ candidate: Candidate) -> Beam {
    var beam = self
    beam.tokens.append(candidate.token)
    beam.logProbabilities.append(candidate.score - score)
    beam.score = candidate.score
    beam.constraints?.append(candidate.token)
    return beam
  }
}

/// A beam with one more token.
private struct Candidate {
  var beam: Int
  var token: TokenID
  var score: Double
}

extension LanguageModel {
  /// Looks for the most probable output with a beam search.
  ///
  /// In each step the best continuations of all beams are ranked together. Each beam offers one more than there are
  /// beams and end tokens, so that enough are left that have not ended. Ended outputs are kept by their score with the
  /// length penalty. The search stops when as many have ended as there are beams, and the best one under way is no
  /// better than the worst of these. That is the Hugging Face library's default rule.
  ///
  /// - Parameters:
  ///   - prompt: The prompt's tokens.
  ///   - search: Beams and length penalty.
  ///   - options: Greedy, without stop strings.
  ///   - shouldStop: Asked before each step.
  /// - Returns: The best output, or `nil` when `shouldStop` said so.
  /// - Throws: ``GenerationError`` for options that do not go together, `DecoderError`, and the tokenizer's errors.
  /// - Complexity: A step reads the weights once for all beams.
  public func generate(
    prompt: [TokenID], search: BeamSearch, options: GenerationOptions = GenerationOptions(),
    shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> Generation? {
    try search.validate()
    for (field, isFree, found) in [
      ("temperature", options.sampling == .greedy, "sampling"),
      ("stop", options.stopStrings.isEmpty, "a stop string"),
      // A beam's score is the model's own probability.
      ("adjustments", options.adjustments.isEmpty, "penalties or biases"),
      ("logprobs", options.topProbabilities == nil, "a number"),
    ] where !isFree {
      throw GenerationError.option(field: field, expected: "absent with beams", found: found)
    }
    var buffers = DecodingBuffers(decoder: decoder)
    let sequence = try SequenceDecoding(model: self, prompt: prompt, options: options)
    guard try buffers.readPrompt(of: sequence, shouldStop: shouldStop) else { return nil }

    let start = sequence.prompt.count
    let longest = sequence.remainingTokens
    let kept = max(2, 1 + endTokens.count) * search.beams
    var caches = [sequence.cache]
    var running = [Beam(tokens: [], score: 0, constraints: sequence.constraints)]
    var ended: [Beam] = []
    var isOpen = true
    while isOpen {
      var candidates: [Candidate] = []
      try buffers.withLogits(rows: running.count == 1 ? buffers.lastRow : 0..<running.count) { row, logits in
        let beam = running.count == 1 ? 0 : row
        Self.best(kept, of: logits, after: running[beam], beam: beam, into: &candidates)
      }
      let length = (running.first?.tokens.count ?? 0) + 1
      let divisor = Double.pow(Double(length), search.lengthPenalty)
      let isLast = length >= longest
      func hasEnded(_ candidate: Candidate) -> Bool { isLast || endTokens.contains(candidate.token) }
      for candidate in candidates.prefix(search.beams) where hasEnded(candidate) {
        var beam = running[candidate.beam].adding(candidate)
        beam.score = candidate.score / divisor
        ended.append(beam)
      }
      // Of equal scores the earlier one stays.
      ended = Array(Self.ranked(ended).prefix(search.beams))

      let next = candidates.filter { !hasEnded($0) }.prefix(search.beams)
      guard let best = next.first else { break }
      if ended.count == search.beams, let worst = ended.last, best.score / divisor <= worst.score { break }
      if shouldStop() { return nil }
      caches = try Self.distribute(
        caches, to: next.map(\.beam), from: start, filled: start + length - 1, limit: search.beams
      ) { try decoder.makeCache(capacity: sequence.cache.capacity) }
      running = next.map { running[$0.beam].adding($0) }
      try buffers.advance(next.map { $0.token }, caches: caches, position: start + length - 1)
      isOpen = !isLast
    }
    // With a length, the best output is cut at it: beams are compared as wholes.
    if let best = ended.first {
      for (token, logProbability) in zip(best.tokens, best.logProbabilities) where sequence.stopReason == nil
      {
        _ = try sequence.append(token, logProbability: logProbability)
      }
    }
    return sequence.makeGeneration()
  }

  /// Adds the continuations of one beam that are among the `count` best so far; `best` stays sorted.
  private static func best(
    _ count: Int, of logits: UnsafeBufferPointer<Float>, after running: Beam, beam: Int,
    into best: inout [Candidate]
  ) {
    let shift = running.score - Logits.logSumExp(logits)
    for (token, logit) in logits.enumerated() {
      let value = Double(logit) + shift
      if best.count == count, value <= best[count - 1].score || value.isNaN { continue }
      if let constraints = running.constraints, !constraints.allows(token) { continue }
      var place = best.count
      while place > 0, best[place - 1].score < value { place -= 1 }
      best.insert(Candidate(beam: beam, token: token, score: value), at: place)
      if best.count > count { best.removeLast() }
    }
  }

  /// Sorted by descending score; equal ones keep their order.
  private static func ranked(_ beams: [Beam]) -> [Beam] {
    beams.enumerated().sorted {
      $0.element.score != $1.element.score ? $0.element.score > $1.element.score : $0.offset < $1.offset
    }.map(\.element)
  }

  /// A cache for each new beam: its parent's own for the first child, a copy for the others.
  private static func distribute(
    _ caches: [KeyValueCache], to parents: [Int], from start: Int, filled: Int, limit: Int,
    make: () throws -> KeyValueCache
  ) throws -> [KeyValueCache] {
    var free = caches.indices.filter { !parents.contains($0) }.map { caches[$0] }
    var isTaken = [Bool](repeating: false, count: caches.count)
    return try parents.map { parent in
      if !isTaken[parent] {
        isTaken[parent] = true
        return caches[parent]
      }
      let copy: KeyValueCache
      if let reused = free.popLast() {
        copy = reused
        copy.copy(caches[parent], positions: start..<filled)
      } else {
        copy = try make()
        copy.copy(caches[parent], positions: 0..<filled)
      }
      return copy
    }
  }
}

extension DecodingBuffers {
  /// The row of the token that was advanced last.
  fileprivate var lastRow: Range<Int> { states.count - 1..<states.count }

  /// Runs one token of each of several sequences that have the same length.
  fileprivate func advance(_ tokens: [TokenID], caches: [KeyValueCache], position: Int) throws(DecoderError) {
    try decoder.embed(tokens, into: states)
    try decoder.advance(
      states, rows: caches.map { BatchRow(cache: $0, position: position) },
      layers: 0..<decoder.configuration.layerCount)
  }
}
