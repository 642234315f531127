import Generation
import Transformers

/// One pass of a sequence's last token, and of tokens that were guessed after it, each to the layer after which it
/// leaves: the one place where exits are looked at and decided.
final class ExitPass {
  /// Where the first token stands, and what policies and heads are told of it.
  struct Place {
    var row: BatchRow
    /// That of the sequence.
    var prompt: [TokenID]
    /// The place in the output of the token that is chosen after the first.
    var tokenIndex: Int
    var maxTokens: Int
  }

  /// What is known of a row that was run to the layer it leaves after.
  private struct Verdict {
    var row: LayeredRow
    /// `nil` for a row that passed all layers.
    var reason: ExitReason?
    /// The exit head's logits and what they are of, where the confidence took them.
    var logits: (values: [Float], candidates: [TokenID]?)?
  }

  private let exits: ExitDecoder
  private let tokens: [TokenID]
  private let place: Place
  private let take: (_ row: Int, ExitLogits) throws -> Bool
  /// Those whose completion is pending, then the tokens'.
  private var rows: [LayeredRow] = []
  private let first: Int
  private var verdicts: [Verdict?]
  private var checks: [[ExitCheck]]
  /// Rows that were handed over.
  private var reported = 0
  private var reads: ConfidenceInput { exits.strategy.measure.reads }

  /// - Parameter take: Is given the row, from 0, its logits and how it came to them; `false` ends the pass, and tokens
  ///   after that row are forgotten.
  init(
    _ exits: ExitDecoder, _ tokens: [TokenID], at place: Place,
    _ take: @escaping (_ row: Int, ExitLogits) throws -> Bool
  ) {
    self.exits = exits
    self.tokens = tokens
    self.place = place
    self.take = take
    first = exits.deferred.count
    verdicts = Array(repeating: nil, count: tokens.count)
    checks = Array(repeating: [], count: tokens.count)
  }

  func begin() throws -> PassWork? {
    exits.beginCounting()
    rows = try exits.deferred + LayeredRow.embedded(tokens, at: place.row, decoder: exits.decoder)
    return try look(0)
  }

  /// Takes the rows up to the last undecided one, and all before it, to a layer.
  private func advance(to layer: Int, _ then: @escaping () throws -> PassWork?) throws -> PassWork? {
    guard let last = verdicts.lastIndex(where: { $0 == nil }) else { return try then() }
    return try exits.advance(Array(rows[...(first + last)]), to: layer) { part in
      self.rows.replaceSubrange(0..<part.count, with: part)
      return try then()
    }
  }

  /// Goes on to an exit layer, by its place among them.
  private func look(_ index: Int) throws -> PassWork? {
    guard index < exits.layers.count, verdicts.contains(where: { $0 == nil }) else { return try passAll() }
    let layer = exits.layers[index]
    guard reads.contains(.previousHiddenState) else {
      return try advance(to: layer) { try self.check(index, row: 0, previous: []) }
    }
    return try advance(to: layer - 1) {
      let previous = self.rows[self.first...].map(\.state)
      return try self.advance(to: layer) { try self.check(index, row: 0, previous: previous) }
    }
  }

  /// Looks at the undecided rows from one on, after an exit layer.
  private func check(_ index: Int, row: Int, previous: [[Float]]) throws -> PassWork? {
    guard let row = verdicts.indices.first(where: { $0 >= row && verdicts[$0] == nil }) else {
      return try look(index + 1)
    }
    let layer = exits.layers[index]
    var reading = ConfidenceReading(layer: layer)
    if !previous.isEmpty { reading.previousHiddenState = previous[row] }
    if reads.contains(.hiddenState) { reading.hiddenState = rows[first + row].state }
    guard reads.contains(.logits) else {
      return try decide(index, row: row, reading: reading, previous: previous)
    }
    return exits.head.work([rows[first + row]], layer: layer) { [reading] shared in
      var (shared, reading) = (shared, reading)
      try self.exits.head.finish(&shared, layer: layer, prompt: self.place.prompt)
      reading.logits = self.exits.head.logits
      return try self.decide(index, row: row, reading: reading, previous: previous)
    }
  }

  private func decide(
    _ index: Int, row: Int, reading: ConfidenceReading, previous: [[Float]]
  ) throws -> PassWork? {
    let layer = exits.layers[index]
    let confidence = exits.strategy.measure.boundedConfidence(reading)
    checks[row].append(ExitCheck(layer: layer, confidence: confidence))
    let decision = exits.strategy.policy.decide(
      ExitObservation(
        layer: layer, layerCount: exits.layerCount, confidence: confidence,
        tokenIndex: place.tokenIndex + row, maxTokens: place.maxTokens))
    guard case .exit(let chosen, let reason) = decision else {
      return try check(index, row: row + 1, previous: previous)
    }
    guard chosen == layer else {
      throw EarlyExitError.option(field: "exit decision", expected: "layer \(layer)", found: "\(chosen)")
    }
    verdicts[row] = Verdict(
      row: rows[first + row], reason: reason,
      logits: reading.logits.isEmpty ? nil : (reading.logits, exits.head.candidates))
    // A wrong guess is known as soon as the row before it is decided: what follows is not looked at.
    return try report { try self.check(index, row: row + 1, previous: previous) }
  }

  /// Takes what is undecided through all layers.
  private func passAll() throws -> PassWork? {
    try advance(to: exits.layerCount) {
      for row in self.verdicts.indices where self.verdicts[row] == nil {
        self.verdicts[row] = Verdict(row: self.rows[self.first + row], reason: nil, logits: nil)
      }
      return try self.report { nil }
    }
  }

  /// Hands over what is decided, then goes on, unless nothing more is wanted.
  private func report(_ goOn: @escaping () throws -> PassWork?) throws -> PassWork? {
    guard reported < verdicts.count, let verdict = verdicts[reported] else { return try goOn() }
    if let logits = verdict.logits {
      exits.head.restore(logits.values, of: logits.candidates)
      return try hand(verdict, goOn)
    }
    guard verdict.reason != nil else {
      return exits.head.fullWork(verdict.row) { logits in
        self.exits.head.finishFull(logits)
        return try self.hand(verdict, goOn)
      }
    }
    return exits.head.work([verdict.row], layer: verdict.row.layer) { shared in
      var shared = shared
      try self.exits.head.finish(&shared, layer: verdict.row.layer, prompt: self.place.prompt)
      return try self.hand(verdict, goOn)
    }
  }

  private func hand(_ verdict: Verdict, _ goOn: @escaping () throws -> PassWork?) throws -> PassWork? {
    // After the last row the cache is settled first, so that the record has what that costs.
    guard reported < verdicts.count - 1 else {
      return try end(after: reported + 1) {
        _ = try self.give(verdict)
        return nil
      }
    }
    return try give(verdict) ? try report(goOn) : try end(after: reported) { nil }
  }

  private func give(_ verdict: Verdict) throws -> Bool {
    let row = reported
    let record = DepthRecord(
      reason: verdict.reason ?? .lastLayer, checks: checks[row], bytesRead: exits.bytesRead)
    exits.beginCounting()
    reported += 1
    // The head is not to be borrowed while the token is taken: that may complete the cache.
    let (values, candidates) = (exits.head.logits, exits.head.candidates)
    return try values.withUnsafeBufferPointer {
      try take(row, ExitLogits($0, of: candidates, layer: verdict.row.layer, depth: record))
    }
  }

  /// Forgets the rows after the first `count` of the tokens', and settles the cache.
  private func end(after count: Int, _ then: @escaping () throws -> PassWork?) throws -> PassWork? {
    rows.removeSubrange((first + count)...)
    place.row.cache.crop(to: place.row.position + count)
    return try exits.settle(rows, then)
  }
}
