import EarlyExit
import Generation
import Transformers

/// What a pass at full depth needs of the large model, and which tokens the rule lets stay.
extension SpeculativeSession {
  /// Rows whose logits are computed together. The unembedding is read once for each group, and rows after the first
  /// wrong guess need no logits at all.
  private static let logitRows = 4

  /// Runs the last token and the drafted ones through the layers from `layer` on and hands their logits to
  /// ``take(_:_:)``, until it says that no more are wanted.
  func verify(
    _ tokens: [TokenID], from layer: Int, pending: (token: TokenID, row: BatchRow)
  ) throws -> PassWork? {
    if layer == 0 { try model.decoder.embed([pending.token] + tokens, into: buffers.states) }
    let rows = (0...tokens.count).map {
      LayeredRow(
        place: BatchRow(cache: sequence.cache, position: pending.row.position + $0), layer: layer,
        state: buffers.states[$0])
    }
    statistics.bytesRead += (layerCount - layer) * model.decoder.bytesPerLayer
    return try climb(rows, past: seen.keys.filter { $0 > layer }.sorted()[...])
  }

  /// Takes rows through the layers, and keeps their states after those that drafters read.
  private func climb(_ rows: [LayeredRow], past stops: ArraySlice<Int>) throws -> PassWork? {
    guard let stop = stops.first else {
      let isReduced = reduced != nil && !rule.keepsOutput
      return isReduced ? reducedWork(rows) : try headWork(rows[...], first: 0)
    }
    return .layers(model.decoder, rows, to: stop) { rows in
      self.seen[stop]?.set(rows.map(\.state))
      return try self.climb(rows, past: stops.dropFirst())
    }
  }

  /// The logits of the next few rows that have passed all layers.
  private func headWork(_ rows: ArraySlice<LayeredRow>, first: Int) throws -> PassWork? {
    guard !rows.isEmpty else { return nil }
    let group = Array(rows.prefix(Self.logitRows))
    statistics.bytesRead += model.decoder.bytesOfUnembedding
    return .head(model.decoder, nil, group) { logits in
      guard try self.take(logits, of: nil, rows: group.count, first: first) else { return nil }
      return try self.headWork(rows.dropFirst(group.count), first: first + group.count)
    }
  }

  /// The shortlist's logits of all rows that have passed all layers.
  private func reducedWork(_ rows: [LayeredRow]) -> PassWork? {
    reduced?.work(rows, layer: layerCount) { shared in
      var shared = shared
      let read = self.reduced?.bytesRead ?? 0
      try self.reduced?.finish(&shared, layer: self.layerCount, prompt: self.sequence.headTokenIDs)
      guard let reduced = self.reduced else { return nil }
      self.statistics.bytesRead += reduced.bytesRead - read
      self.statistics.shortlistSteps += 1
      _ = try reduced.logits.withUnsafeBufferPointer {
        try self.take($0, of: reduced.candidates, rows: rows.count, first: 0)
      }
      return nil
    }
  }

  /// Chooses the tokens after several rows; whether the next row is of any use.
  private func take(
    _ logits: UnsafeBufferPointer<Float>, of candidates: [TokenID]?, rows: Int, first: Int
  ) throws -> Bool {
    let size = logits.count / rows
    for row in 0..<rows {
      let own = UnsafeBufferPointer(rebasing: logits[row * size..<(row + 1) * size])
      guard try take(first + row, ExitLogits(own, of: candidates, layer: layerCount)) else { return false }
    }
    return true
  }

  /// Appends the token that the rule puts in the place of `guess`.
  func choose(_ guess: TokenID?, _ logits: ExitLogits) throws -> TokenStep {
    func append(_ token: TokenID, at place: Int) throws -> TokenStep {
      sequence.record(logits.values, of: logits.candidates)
      return try sequence.append(
        token, layer: logits.layer, depth: logits.depth,
        logProbability: sequence.recordsProbabilities
          ? Double(logits.values[place]) - Logits.logSumExp(logits.values) : nil)
    }
    guard case .rollback(let threshold) = rule, let guess else {
      return try sequence.accept(
        logits.values, of: logits.candidates, layer: logits.layer, depth: logits.depth)
    }
    guard let best = sequence.best(of: logits.values, candidates: logits.candidates) else {
      return try sequence.end(logits.layer, logits.depth)
    }
    let token = logits.candidates?[best] ?? best
    // A token that a reduced head does not know is infinitely far from it.
    let place = logits.candidates.map { $0.firstIndex(of: guess) } ?? guess
    guard let place, guess != token else { return try append(token, at: best) }
    let distance = Logits.logSumExp(logits.values) - Double(logits.values[place])
    // At 0 not even rounding may let another token pass.
    if threshold > 0, distance <= threshold, sequence.allows(guess) {
      statistics.substituted += 1
      return try append(guess, at: place)
    }
    if distance.isFinite {
      statistics.nearestRefusal = min(statistics.nearestRefusal ?? .infinity, distance)
    }
    return try append(token, at: best)
  }
}
