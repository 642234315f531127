import Generation
import Transformers

/// One prompt of a sweep with deferred completion: its output at the present threshold, and what was read at every exit
/// layer of its tokens.
struct ExitCurve {
  private(set) var pieces: [ExitSweep.Piece] = []
  /// The output at the present threshold. Its cache is that of a full-depth run.
  private(set) var sequence: SequenceDecoding
  private let sweep: ExitSweep
  private var request: ExitSweep.Request
  private let layerCount: Int
  private let applicability: Applicability?
  /// What the tripwire has seen of the output at the present threshold; `nil` once the output is back at full depth.
  private var watch: RepetitionWatch?
  /// What was refused by tokens that were taken back: at a lower threshold they may be others.
  private var refusalOfDiscarded: Double?
  /// The sequence after a prompt whose tokens stopped, where the output was brought back and they were read again:
  /// what lower thresholds go on from.
  private var stopped: SequenceDecoding?
  private var policy: ThresholdPolicy
  /// By token after the first, as far as they are known for the tokens before.
  private var readings: [ExitReading] = []
  private var head: ExitHead
  /// Whether exits are looked at: not where the output is wanted at full depth alone.
  let looks: Bool

  /// - Parameters:
  ///   - sequence: With its first token.
  ///   - threshold: The first of the curve, from which it goes down.
  ///   - looks: Whether it does; `false` for the full-depth output alone, at the threshold 1.
  init(
    _ sweep: ExitSweep, request: ExitSweep.Request, sequence: SequenceDecoding, from threshold: Double = 1,
    looks: Bool = true
  ) throws {
    self.sweep = sweep
    self.request = request
    self.sequence = sequence
    self.looks = looks
    // The cache has the prompt, however deep it was read.
    self.request.options.promptDepth = nil
    applicability = sequence.applicability
    if request.options.tripwire != nil, sweep.distance == nil, looks {
      var watch = RepetitionWatch()
      for token in sequence.generated { watch.append(token) }
      self.watch = watch
    }
    layerCount = sweep.model.decoder.configuration.layerCount
    policy = sweep.policy.with(threshold: threshold)
    head = try ExitHead(sweep.strategy.heads, decoder: sweep.model.decoder)
  }

  /// Looks at the pending token.
  ///
  /// - Parameters:
  ///   - states: Of the token.
  ///   - shared: What the heads of the exit layers make of them.
  ///   - full: The full model's logits, where distributions are compared.
  /// - Returns: Whether the full model's token is needed. The whole unembedding is the largest matrix of all, and what
  ///   leaves early does so at every lower threshold too.
  mutating func look(
    _ states: ExitProbe.States, shared: [ExitHead.SharedLogits], full: [Float]?, layers: [Int]
  ) throws -> Bool {
    let place = sequence.generated.count
    guard looks else {
      readings.append(ExitReading())
      return true
    }
    let reading = try ExitReading(
      states, shared: shared, full: full, strategy: sweep.strategy, layers: layers, distance: sweep.distance,
      prompt: request.prompt, head: &head)
    readings.append(reading)
    return reading.token == nil && departure(of: reading.checks, at: place) == nil
  }

  /// Adds the token that was looked at, and goes on to lower thresholds where that ends the output.
  ///
  /// - Parameter full: The full model's token, where it was needed.
  mutating func add(_ full: TokenID?) throws {
    let place = sequence.generated.count
    if let full { readings[place - 1].token = full }
    if let token = token(at: place) {
      _ = try sequence.append(token)
      try look(at: token)
    }
    try settle()
  }

  /// Goes back to full depth where the output repeats itself.
  private mutating func look(at token: TokenID) throws {
    watch?.append(token)
    guard let tripwire = request.options.tripwire, let watch, watch.isTripped(tripwire) else { return }
    let kept = watch.safeCount
    refusalOfDiscarded = largestRefusal(in: kept..<sequence.generated.count)
    if sequence.stoppedAfter != nil { stopped = sequence }
    sequence = try sequence.cut(to: kept, model: sweep.model, options: request.options)
    try sweep.readAgain(sequence)
    self.watch = nil
    // The place that follows was read already, but its full-depth token may not have been asked for.
    readings.removeSubrange(min(max(0, kept - 1), readings.count)...)
  }

  /// Notes the output where it is complete, and those of lower thresholds that need no decoding.
  mutating func settle() throws {
    while sequence.stopReason != nil {
      pieces.append(makePiece())
      // What the guard finds outside is decoded at full depth, whatever the threshold.
      guard looks, applicability?.isInside ?? true else { return }
      let read = 1..<max(sequence.trippedAt ?? sequence.generated.count, 1)
      let refused = [largestRefusal(in: read), refusalOfDiscarded].compactMap { $0 }.max()
      guard let next = sweep.following(refused, below: policy.threshold) else { return }
      policy = policy.with(threshold: next)
      // What was taken back at the threshold before may not be now, so decoding goes on from where it was cut.
      let cut = sequence.trippedAt
      sequence.trippedAt = nil
      refusalOfDiscarded = nil
      guard let change = read.first(where: { token(at: $0) != sequence.generated[$0] }) ?? cut else {
        continue
      }
      let kept = sequence.generated.prefix(change)
      // What was read after the cut is of a prompt that passed all layers, and does not hold for one that stopped.
      let isUnread = stopped != nil && change == cut
      let changed = isUnread ? nil : token(at: change)
      guard isUnread || changed != nil else { return }
      let known = isUnread ? change - 1 : change
      let begun = stopped ?? sequence
      stopped = nil
      readings.removeSubrange(known...)
      begun.cache.crop(to: begun.prompt.count + known)
      sequence = try begun.rewound(model: sweep.model, options: request.options)
      if watch != nil || cut != nil { watch = RepetitionWatch() }
      for id in kept {
        _ = try sequence.append(id)
        watch?.append(id)
      }
      guard let changed else { return }
      _ = try sequence.append(changed)
      try look(at: changed)
    }
  }

  /// The check at which the token at a place after the first leaves at the present threshold; `nil` for full depth.
  private func departure(at place: Int) -> Int? { departure(of: readings[place - 1].checks, at: place) }

  private func departure(of checks: [ExitReading.Check], at place: Int) -> Int? {
    checks.firstIndex { check in
      policy.threshold < 1 && place < sequence.trippedAt ?? .max
        && policy.decide(
          ExitObservation(
            layer: check.layer, layerCount: layerCount, confidence: check.confidence, tokenIndex: place,
            maxTokens: request.options.maxTokens)) != .continue
    }
  }

  /// The token at a place after the first.
  private func token(at place: Int) -> TokenID? {
    let reading = readings[place - 1]
    guard sweep.distance == nil, let index = departure(at: place) else { return reading.token }
    return reading.checks[index].token
  }

  /// The largest threshold below the present one at which a token leaves earlier.
  private func largestRefusal(in places: Range<Int>) -> Double? {
    var largest: Double?
    for place in places {
      for check in readings[place - 1].checks[..<(departure(at: place) ?? readings[place - 1].checks.count)] {
        let critical = sweep.policy.criticalThreshold(
          confidence: check.confidence, at: place, of: request.options.maxTokens)
        if let critical, critical < policy.threshold { largest = max(largest ?? critical, critical) }
      }
    }
    return largest
  }

  private func makePiece() -> ExitSweep.Piece {
    var generation = sequence.makeGeneration()
    var exitBytes = ExitBytes(sweep.strategy, decoder: sweep.model.decoder)
    var bytes = 0
    var depthWork = sweep.makeDepthWork()
    var distance = 0.0
    // Full depth is not brought back to itself.
    if policy.threshold >= 1 { generation.trippedAt = nil }
    generation.layers = [layerCount]
    for place in 1..<max(generation.tokenIDs.count, 1) {
      let checks = readings[place - 1].checks
      let index = departure(at: place)
      generation.layers.append(index.map { checks[$0].layer } ?? layerCount)
      distance += index.map { checks[$0].distance } ?? 0
      // At 1 exit layers are not even looked at.
      let checked = policy.threshold < 1 ? checks[..<(index.map { $0 + 1 } ?? checks.count)] : []
      bytes += exitBytes.bytes(checked, leavesEarly: index != nil)
      if policy.threshold < 1 {
        depthWork.add(looks: checked.count, depth: generation.layers[place], leavesEarly: index != nil)
      } else {
        depthWork.addFullDepth()
      }
    }
    let count = generation.tokenIDs.count
    var work = depthWork.work
    work.tokens = max(count - 1, 0)
    return ExitSweep.Piece(
      threshold: policy.threshold, generation: generation,
      bytesPerToken: Double(bytes) / Double(max(work.tokens, 1)), work: work,
      distance: distance / Double(max(count, 1)))
  }
}
