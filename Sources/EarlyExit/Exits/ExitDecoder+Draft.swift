import Generation
import Transformers

/// Decoding with early exits where tokens are guessed ahead, by this model or for it.
extension ExitDecoder {
  /// What is known of a row that was run to the layer it leaves after.
  private struct Verdict {
    var row: LayeredRow
    /// `nil` for a row that passed all layers.
    var reason: ExitReason?
    /// The exit head's logits and what they are of, where the confidence took them.
    var logits: (values: [Float], candidates: [TokenID]?)?
  }

  /// Runs the last token of a sequence and the guessed ones after it, each to the layer after which it leaves, and
  /// hands their logits over in order.
  ///
  /// With deferred completion every token leaves where it would without guesses, with the same logits to the bit. Rows
  /// share each pass through a layer. The caller appends the tokens and crops the cache.
  ///
  /// - Parameter body: Is given the row, from 0, its logits and how it came to them; `false` ends the run, and tokens
  ///   after that row are forgotten.
  package mutating func verify(
    _ sequence: SequenceDecoding, guesses: [TokenID],
    _ body: (_ row: Int, ExitLogits) throws -> Bool
  ) throws {
    guard let (token, place) = sequence.pending else { return }
    beginCounting()
    let first = deferred.count
    var rows = deferred
    try rows += embedded([token] + guesses, position: place.position)
    var verdicts = [Verdict?](repeating: nil, count: guesses.count + 1)
    var checks = [[ExitCheck]](repeating: [], count: guesses.count + 1)
    var reported = 0
    /// Hands over what is decided; `false` when nothing more is wanted.
    func report(_ decoder: inout ExitDecoder) throws -> Bool {
      while reported < verdicts.count, let verdict = verdicts[reported] {
        if let logits = verdict.logits {
          decoder.head.restore(logits.values, of: logits.candidates)
        } else if verdict.reason == nil {
          try decoder.head.runFull(verdict.row.state)
        } else {
          try decoder.head.run(verdict.row.state, layer: verdict.row.layer, prompt: sequence.headTokenIDs)
        }
        let record = DepthRecord(
          reason: verdict.reason ?? .lastLayer, checks: checks[reported], bytesRead: decoder.bytesRead)
        decoder.beginCounting()
        reported += 1
        let goesOn = try decoder.head.logits.withUnsafeBufferPointer {
          try body(
            reported - 1,
            ExitLogits(
              $0, of: decoder.head.candidates, layer: verdict.row.layer, depth: record))
        }
        if !goesOn { return false }
      }
      return reported < verdicts.count
    }
    /// Takes the rows up to the last undecided one, and all before it, to a layer.
    func advance(_ decoder: inout ExitDecoder, to layer: Int) throws {
      guard let last = verdicts.lastIndex(where: { $0 == nil }) else { return }
      var part = Array(rows[...(first + last)])
      try decoder.advance(&part, to: layer, cache: place.cache)
      rows.replaceSubrange(0..<part.count, with: part)
    }

    var isOpen = true
    for layer in layers where isOpen {
      var previous: [[Float]] = []
      if strategy.measure.reads.contains(.previousHiddenState) {
        try advance(&self, to: layer - 1)
        previous = rows[first...].map(\.state)
      }
      try advance(&self, to: layer)
      for index in verdicts.indices where verdicts[index] == nil {
        var reading = ConfidenceReading(layer: layer)
        if !previous.isEmpty { reading.previousHiddenState = previous[index] }
        if strategy.measure.reads.contains(.hiddenState) { reading.hiddenState = rows[first + index].state }
        if strategy.measure.reads.contains(.logits) {
          try head.run(rows[first + index].state, layer: layer, prompt: sequence.headTokenIDs)
          reading.logits = head.logits
        }
        let confidence = strategy.measure.boundedConfidence(reading)
        checks[index].append(ExitCheck(layer: layer, confidence: confidence))
        let decision = strategy.policy.decide(
          ExitObservation(
            layer: layer, layerCount: layerCount, confidence: confidence,
            tokenIndex: sequence.generated.count + index - reported, maxTokens: sequence.maxTokens))
        guard case .exit(let chosen, let reason) = decision else { continue }
        guard chosen == layer else {
          throw EarlyExitError.option(field: "exit decision", expected: "layer \(layer)", found: "\(chosen)")
        }
        verdicts[index] = Verdict(
          row: rows[first + index], reason: reason,
          logits: reading.logits.isEmpty ? nil : (reading.logits, head.candidates))
        // A wrong guess is known as soon as the row before it is decided: what follows is not looked at.
        isOpen = try report(&self)
        if !isOpen { break }
      }
    }
    if isOpen {
      try advance(&self, to: layerCount)
      for index in verdicts.indices where verdicts[index] == nil {
        verdicts[index] = Verdict(row: rows[first + index], reason: nil, logits: nil)
      }
      _ = try report(&self)
    }
    rows.removeSubrange((first + reported)...)
    place.cache.crop(to: place.position + reported)
    deferred = try kept(rows, cache: place.cache)
  }

  /// Tokens at the bottom of the layers.
  func embedded(_ tokens: [TokenID], position: Int) throws(DecoderError) -> [LayeredRow] {
    try decoder.embed(tokens, into: scratch)
    return tokens.indices.map {
      LayeredRow(position: position + $0, layer: 0, state: scratch[$0])
    }
  }
}

/// The logits that a token is chosen from, and how its row came to them.
package struct ExitLogits {
  package let values: UnsafeBufferPointer<Float>
  /// The tokens that they are of; `nil` for the whole vocabulary.
  package let candidates: [TokenID]?
  package let layer: Int
  /// `nil` where exits were not asked for.
  package let depth: DepthRecord?

  package init(
    _ values: UnsafeBufferPointer<Float>, of candidates: [TokenID]? = nil, layer: Int,
    depth: DepthRecord? = nil
  ) {
    self.values = values
    self.candidates = candidates
    self.layer = layer
    self.depth = depth
  }
}

/// A draft model's decoding with early exits: its tokens are chosen, and taken back, by whoever drafts.
package struct ExitingDraft {
  private var exits: ExitDecoder
  private let cache: KeyValueCache
  private let prompt: [TokenID]
  private let maxTokens: Int
  /// Bytes of weights read so far.
  package private(set) var bytesRead = 0

  /// - Parameter cache: The draft model's.
  /// - Throws: ``EarlyExitError`` for a strategy that does not fit the model.
  package init(
    _ strategy: ExitStrategy, decoder: any DecoderModel, cache: KeyValueCache, prompt: [TokenID],
    maxTokens: Int
  ) throws {
    exits = try ExitDecoder(strategy, decoder: decoder)
    self.cache = cache
    self.prompt = prompt
    self.maxTokens = maxTokens
  }

  /// Runs a token to the layer after which it leaves, and hands over its logits and the tokens they are of, `nil` for
  /// the whole vocabulary.
  package mutating func push<Result>(
    _ token: TokenID, position: Int, _ body: (UnsafeBufferPointer<Float>, [TokenID]?) throws -> Result
  ) throws -> Result {
    bytesRead += try exits.run(
      token, at: BatchRow(cache: cache, position: position), prompt: prompt,
      tokenIndex: position + 1 - prompt.count, maxTokens: maxTokens
    ).depth.bytesRead
    return try exits.head.logits.withUnsafeBufferPointer { try body($0, exits.head.candidates) }
  }

  /// Runs the layers that tokens skipped, so that a batch may follow at full depth.
  package mutating func complete() throws {
    exits.beginCounting()
    try exits.complete(cache)
    bytesRead += exits.bytesRead
  }

  /// Forgets every token from position `count` on.
  package mutating func crop(to count: Int) {
    exits.deferred.removeAll { $0.position >= count }
    cache.crop(to: count)
  }
}
