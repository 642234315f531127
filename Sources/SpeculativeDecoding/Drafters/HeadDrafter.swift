import EarlyExit
import Generation
import Transformers

/// Drafts with a ``DraftHead``, greedily, until it is unsure.
///
/// The head keeps keys and values of its own for every token that the large model has passed. While it drafts, its own
/// output stands for the states that the large model has not computed; once the draft is verified, the true ones take
/// their place.
public final class HeadDrafter: Drafter {
  /// Its price is that of the head's bytes; it reads the states after the head's layers.
  public let profile: DrafterProfile

  private let model: LanguageModel
  let head: DraftHead.Prepared
  let prompt: [TokenID]
  private let fallback: FallbackThreshold
  let cache: KeyValueCache
  private let rows: HiddenStates
  private var fused: [Float] = []
  private var unembedding: ExitHead
  /// Rows in the cache. Row t is of the state of token t and the embedding of token t + 1.
  var cached = 0
  /// Hidden states of the tokens from the last of the prompt on, (count, hiddenSize), by the layers that the head
  /// reads, the last layer first.
  private var states: [[Float]]
  private let size: Int
  private var bytes = 0

  /// - Parameters:
  ///   - head: A head that was trained for the model.
  ///   - model: The large model.
  ///   - prompt: What the history begins with.
  ///   - maxTokens: Tokens that may follow it.
  ///   - fallback: α_FB, in 0...1: the draft ends before the first token that the head finds less probable.
  /// - Throws: ``SpeculativeDecodingError`` for settings out of range or a head of another shape, `DecoderError` when
  ///   there is no memory.
  public init(
    _ head: DraftHead, model: LanguageModel, prompt: [TokenID], maxTokens: Int, fallback: Double = 0.6
  ) throws {
    self.model = model
    self.head = try head.prepared(for: model)
    self.prompt = prompt
    self.fallback = try FallbackThreshold(fallback)
    size = model.decoder.configuration.hiddenSize
    states = Array(repeating: [], count: self.head.layers.count)
    let room = min(maxTokens, model.contextLength)
    cache = try self.head.layer.makeCache(capacity: max(1, min(prompt.count + room, model.contextLength)))
    rows = HiddenStates(hiddenSize: size, capacity: DecodingBuffers.prefillChunk)
    unembedding = try ExitHead(head.unembedding, decoder: model.decoder)
    let read =
      self.head.draftMap.byteCount + self.head.layer.bytesPerLayer + unembedding.byteCount(layer: 0)
    profile = DrafterProfile(
      writer: .draft, costPerToken: Double(read) / Double(max(model.bytesPerToken, 1)),
      readsLayers: Set(self.head.layers))
  }

  /// Keeps what the head needs of verified tokens.
  ///
  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` where a layer's states are missing.
  public func read(_ states: [Int: HiddenStates], positions: Range<Int>) throws {
    let read = try head.layers.map { layer in
      guard let found = states[layer] else {
        throw SpeculativeDecodingError.option(
          field: "states", expected: "those after layer \(layer)", found: "\(states.keys.sorted())")
      }
      return found
    }
    // Whatever follows a token of the prompt stands in it, but for its last.
    let count = max(0, min(positions.upperBound, prompt.count - 1) - positions.lowerBound)
    if count > 0 {
      let values = read.map { states in (0..<count).flatMap { states[$0] } }
      let places = try fuse(
        values, followers: prompt[positions.lowerBound + 1..<positions.lowerBound + 1 + count])
      // Nothing is guessed there: keys and values are all that is looked at later.
      try head.layer.propagate(rows, rows: places, layers: 0..<1)
      cached += count
    }
    for (index, states) in read.enumerated() {
      for row in count..<max(count, positions.count) { self.states[index] += states[row] }
    }
    // Left to the first draft, it would seem to be the price of one.
    if positions.upperBound >= prompt.count { try unembedding.prepare(prompt) }
  }

  /// Drafts with the head until it is unsure, the context is full, or the output ends.
  public func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft {
    let known = prompt.count - 1 + states[0].count / size
    guard limit > 0, let last = history.last, known == history.count - 1, known < cache.capacity,
      !model.endTokens.contains(last)
    else { return Draft() }
    bytes = 0
    let headBytes = unembedding.bytesRead
    var draft = Draft()
    var state: [Float] = []
    while cached < known {
      let end = min(cached + rows.capacity, known)
      let first = (cached - prompt.count + 1) * size
      let numbers = first..<first + (end - cached) * size
      state = try run(states.map { Array($0[numbers]) }, followers: history[cached + 1..<end + 1])
    }
    let confirmed = cached
    defer { forget(from: confirmed) }
    while draft.tokens.count < limit {
      try unembedding.run(state, layer: 0, prompt: prompt)
      let token = unembedding.logits.withUnsafeBufferPointer {
        fallback.draft($0, of: unembedding.candidates)
      }
      guard let token else { break }
      draft.tokens.append(token)
      if draft.tokens == [target.guess] { break }
      guard draft.tokens.count < limit, cached < cache.capacity, !model.endTokens.contains(token) else {
        break
      }
      state = try run([state], followers: [token])
    }
    draft.bytesRead = bytes + unembedding.bytesRead - headBytes
    return draft
  }

  /// Forgets the states, keys and values of tokens that were rolled back.
  public func crop(to count: Int) {
    for index in states.indices {
      states[index].removeSubrange(min(max(0, count - prompt.count + 1) * size, states[index].count)...)
    }
    forget(from: max(count, 1) - 1)
  }

  private func forget(from row: Int) {
    cached = min(cached, row)
    cache.crop(to: cached)
  }

  /// A drafted token on this machine, the best of several rounds after a prompt of some length.
  static func milliseconds(_ head: DraftHead, model: LanguageModel) throws -> Double {
    let (rounds, tokens) = (8, 4)
    // Nothing is drafted after an end token.
    let token = (0..<model.decoder.configuration.vocabularySize).first { !model.endTokens.contains($0) } ?? 0
    let prompt = [TokenID](repeating: token, count: max(1, min(128, model.contextLength - tokens - 1)))
    let drafter = try HeadDrafter(head, model: model, prompt: prompt, maxTokens: tokens + 1, fallback: 0)
    let states = HiddenStates(hiddenSize: drafter.size, capacity: prompt.count)
    try model.decoder.embed(prompt, into: states)
    let layers = drafter.profile.readsLayers
    try drafter.read(
      Dictionary(uniqueKeysWithValues: layers.map { ($0, states) }), positions: 0..<prompt.count)
    let cache = try model.decoder.makeCache(capacity: 1)
    let clock = ContinuousClock()
    var best = Double.infinity
    for _ in 0..<rounds {
      // Between two drafts the model's weights pass through the processor's caches.
      try model.decoder.embed([token], into: states)
      cache.crop(to: 0)
      try model.decoder.advance(
        states, rows: [BatchRow(cache: cache, position: 0)],
        layers: 0..<model.decoder.configuration.layerCount)
      let start = clock.now
      let draft = try drafter.draft(
        after: prompt + [token], limit: tokens, target: DraftTarget(cache: cache, states: states))
      best = min(best, (clock.now - start).seconds / Double(max(draft.tokens.count, 1)))
      drafter.crop(to: prompt.count)
    }
    return 1000 * best
  }

  /// Runs the next rows: states and followers as ``fuse(_:followers:)`` takes them.
  ///
  /// - Returns: The last row's guess of the state that comes next.
  private func run(_ states: [[Float]], followers: ArraySlice<TokenID>) throws -> [Float] {
    let places = try fuse(states, followers: followers)
    try head.layer.advance(rows, rows: places, layers: 0..<1)
    cached += followers.count
    bytes += (states.count == 1 ? head.draftMap : head.map).byteCount + head.layer.bytesPerLayer
    return rows[followers.count - 1]
  }

  /// Makes `rows` the layer's inputs of the next rows: of states, (count, hiddenSize), of each layer that the head reads
  /// or, in a draft, of the last layer alone, which the head's guess stands for; and of the tokens that follow them.
  ///
  /// - Returns: Their places in the cache.
  private func fuse(_ states: [[Float]], followers: ArraySlice<TokenID>) throws -> [BatchRow] {
    let decoder = model.decoder
    try decoder.embed(Array(followers), into: rows)
    var inputs: [Float] = []
    inputs.reserveCapacity(followers.count * size * (states.count + 1))
    for row in 0..<followers.count {
      inputs += rows[row]
      for states in states { inputs += states[row * size..<(row + 1) * size] }
    }
    try decoder.product(states.count == 1 ? head.draftMap : head.map, of: inputs, into: &fused)
    for row in 0..<followers.count { rows[row] = Array(fused[row * size..<(row + 1) * size]) }
    return (0..<followers.count).map { BatchRow(cache: cache, position: cached + $0) }
  }
}
