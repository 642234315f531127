import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Keeps all states that it is told of, and drafts a few tokens that are right and one that is not.
private final class Listener: Drafter {
  let profile = DrafterProfile(writer: .draft, costPerToken: 0.1, readsLayers: [1, 3, 4])
  var rows: [Int: [[Float]]] = [:]
  var random = SplitMix64(seed: 3)
  var right: [TokenID] = []

  func draft(after history: [TokenID], limit: Int, target: DraftTarget) -> Draft {
    // Right for a while, then wrong.
    let count = min(limit - 1, Int(random.next() % 4))
    var tokens = Array(right.dropFirst(history.count).prefix(count))
    tokens.append(TokenID(random.next() % 100))
    return Draft(tokens: tokens)
  }

  func read(_ states: [Int: HiddenStates], positions: Range<Int>) {
    for (layer, found) in states {
      #expect(rows[layer, default: []].count == positions.lowerBound)
      rows[layer, default: []] += (0..<positions.count).map { found[$0] }
    }
  }

  func crop(to count: Int) {}
}

struct HeadDrafterTests {
  /// A tiny model and a head for it, in one folder.
  private struct Pair {
    let directory: TemporaryDirectory
    let modelPath: String
    let model: LanguageModel
    var files: TinyDraftHead

    /// Parameters are those of ``TinyDraftHead``.
    init(
      seed: UInt64, layers: Int, weightScale: Float = 0.2, token: Float, state: Float, layer: Float,
      shortlist: [TokenID] = [], compute: ComputePath = .quantized
    ) throws {
      var tiny = TinyDecoder()
      tiny.seed = seed
      tiny.layerCount = layers
      tiny.weightScale = weightScale
      tiny.hasTiedEmbedding = false
      // More than passes the layers in one part.
      tiny.contextLength = 512
      var gguf = tiny.gguf()
      // Embeddings of mean square 1 are what the head makes of all embeddings.
      gguf.editTensor("token_embd.weight") { tensor in
        let rows = tensor.floats.rowsDividedByRootMeanSquare(size: tiny.hiddenSize)
        tensor.bytes = rows.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
      }
      files = TinyDraftHead(
        of: tiny, gguf: gguf, token: token, state: state, layer: layer, shortlist: shortlist)
      directory = try TemporaryDirectory()
      modelPath = try directory.write("model.gguf", gguf.build())
      model = try LanguageModel(path: modelPath, compute: compute, threads: 1)
    }

    /// Writes the head and reads it again.
    func head() throws -> DraftHead {
      let path = try files.write(to: directory, modelPath: modelPath)
      return try DraftHead(path: path, modelDigest: FileDigest.sha256(model: modelPath))
    }
  }

  /// After `layer`, or the last one.
  private func states(_ model: LanguageModel, of history: [TokenID], layer: Int? = nil) throws
    -> HiddenStates
  {
    let states = HiddenStates(
      hiddenSize: model.decoder.configuration.hiddenSize, capacity: history.count)
    let cache = try model.decoder.makeCache(capacity: history.count)
    try model.decoder.embed(history, into: states)
    try model.decoder.advance(
      states, rows: history.indices.map { BatchRow(cache: cache, position: $0) },
      layers: 0..<(layer ?? model.decoder.configuration.layerCount))
    return states
  }

  @Test(
    "The model's only layer as a head, fed with embeddings alone, drafts what the model writes without the first token",
    arguments: [1, 7, 30])
  func tokenPath(promptCount: Int) throws {
    let pair = try Pair(seed: 5, layers: 1, token: 1, state: 0, layer: 1, compute: .float32)
    let model = pair.model.ending(with: [])
    var random = SplitMix64(seed: UInt64(promptCount))
    let prompt = randomPrompt(&random, count: promptCount)
    let later = randomPrompt(&random, count: 12)
    let drafter = try HeadDrafter(
      try pair.head(), model: model, prompt: prompt, maxTokens: 60, fallback: 0)
    let target = DraftTarget(
      cache: try model.decoder.makeCache(capacity: 1), states: try states(model, of: [0]))
    try drafter.read([1: states(model, of: prompt)], positions: 0..<prompt.count)
    // Some tokens come without a draft, then drafts follow each other.
    for count in [1, 4, 5, 12] {
      let history = prompt + later.prefix(count)
      let known = try states(model, of: history)
      let start = prompt.count + [1: 0, 4: 0, 5: 3, 12: 4][count, default: 0]
      if count > 1 {
        let fresh = HiddenStates(hiddenSize: known.hiddenSize, capacity: history.count)
        for position in start..<history.count - 1 { fresh.copyRow(position, of: known, to: position - start) }
        try drafter.read([1: fresh], positions: start..<history.count - 1)
      }
      let expected = try model.plain(Array(history.dropFirst()), GenerationOptions(maxTokens: 5)).tokenIDs
      let draft = try drafter.draft(after: history, limit: 5, target: target)
      #expect(draft.tokens == expected)
      #expect(draft.bytesRead > 0)
    }
    // Forgetting all but the prompt and beginning again.
    drafter.crop(to: prompt.count)
    let other = prompt + [65]
    #expect(
      try drafter.draft(after: other, limit: 5, target: target).tokens
        == model.plain(Array(other.dropFirst()), GenerationOptions(maxTokens: 5)).tokenIDs)
  }

  @Test("A head that passes the state on drafts the token that the state has given already")
  func statePath() throws {
    let pair = try Pair(seed: 6, layers: 3, token: 0, state: 1, layer: 0, compute: .float32)
    let model = pair.model.ending(with: [])
    var random = SplitMix64(seed: 4)
    for _ in 0..<20 {
      let prompt = randomPrompt(&random, count: 9)
      let first = try model.plain(prompt, GenerationOptions(maxTokens: 1)).tokenIDs
      let drafter = try HeadDrafter(
        try pair.head(), model: model, prompt: prompt, maxTokens: 9, fallback: 0)
      try drafter.read([3: states(model, of: prompt)], positions: 0..<prompt.count)
      let draft = try drafter.draft(
        after: prompt + first, limit: 3,
        target: DraftTarget(
          cache: try model.decoder.makeCache(capacity: 1), states: try states(model, of: [0])))
      #expect(draft.tokens == [first[0], first[0], first[0]])
    }
  }

  @Test(
    "A head that passes a lower layer's state on drafts first what the model's own head makes of that state")
  func lowerLayer() throws {
    var pair = try Pair(seed: 7, layers: 4, token: 0, state: 0, layer: 0, compute: .float32)
    pair.files.addMap(layer: 2)
    let model = pair.model.ending(with: [])
    let head = try pair.head()
    var random = SplitMix64(seed: 12)
    var differing = 0
    for _ in 0..<10 {
      let prompt = randomPrompt(&random, count: 6)
      let history = prompt + randomPrompt(&random, count: 5)
      let drafter = try HeadDrafter(head, model: model, prompt: prompt, maxTokens: 9, fallback: 0)
      #expect(drafter.profile.readsLayers == [2, 4])
      for part in [0..<prompt.count, prompt.count..<history.count - 1] {
        var read: [Int: HiddenStates] = [:]
        for layer in [2, 4] {
          let all = try states(model, of: history, layer: layer)
          let some = HiddenStates(hiddenSize: all.hiddenSize, capacity: part.count)
          for position in part { some.copyRow(position, of: all, to: position - part.lowerBound) }
          read[layer] = some
        }
        try drafter.read(read, positions: part)
      }
      let draft = try drafter.draft(
        after: history, limit: 1,
        target: DraftTarget(
          cache: try model.decoder.makeCache(capacity: 1), states: try states(model, of: [0])))
      let expected = try [2, 4].map { layer in
        var logits: [Float] = []
        let row = history.count - 2
        try model.decoder.logits(
          of: states(model, of: history, layer: layer), rows: row..<row + 1, into: &logits)
        return logits.indices.max { logits[$0] < logits[$1] }
      }
      #expect(draft.tokens == [expected[0]])
      if expected[0] != expected[1] { differing += 1 }
    }
    // The test says nothing where the layers agree.
    #expect(differing > 3)
  }

  @Test("A session tells a drafter of every token's states after each layer that it reads, once and in order")
  func sessionTells() throws {
    let pair = try Pair(seed: 8, layers: 4, token: 0, state: 0, layer: 0)
    let model = pair.model.ending(with: [])
    var random = SplitMix64(seed: 2)
    let prompt = randomPrompt(&random, count: 300)
    let options = GenerationOptions(maxTokens: 40)
    let plain = try model.plain(prompt, options).tokenIDs
    let listener = Listener()
    listener.right = prompt + plain
    let session = try SpeculativeSession(
      model: model, prompt: prompt, options: options, drafters: [listener], draftLength: 6,
      choosesLength: false)
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == plain)
    #expect(session.statistics.rollbacks > 3)
    #expect(Set(listener.rows.keys) == [1, 3, 4])
    for (layer, rows) in listener.rows {
      let expected = try states(model, of: prompt + plain.dropLast(), layer: layer)
      #expect(rows.count >= prompt.count + plain.count - 2)
      for (position, row) in rows.enumerated() { #expect(row == expected[position]) }
    }
  }

  @Test(
    "Of a prompt that stopped it is told what there is: the states where tokens stopped stand for deeper ones",
    arguments: [1, 2, 3], [40, 300])
  func sessionTellsOfStoppedPrompts(depth: Int, count: Int) throws {
    let pair = try Pair(seed: 8, layers: 4, token: 0, state: 0, layer: 0)
    let model = pair.model.ending(with: [])
    var random = SplitMix64(seed: 2)
    let prompt = randomPrompt(&random, count: count)
    var options = GenerationOptions(maxTokens: 20)
    options.promptDepth = depth
    let plain = try model.plain(prompt, options).tokenIDs
    let listener = Listener()
    listener.right = prompt + plain
    let session = try SpeculativeSession(
      model: model, prompt: prompt, options: options, drafters: [listener], draftLength: 6,
      choosesLength: false)
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == plain)
    // By the definition, a token and a layer at a time.
    var expected: [Int: [[Float]]] = [:]
    let cache = try model.decoder.makeCache(capacity: prompt.count + plain.count)
    let state = HiddenStates(hiddenSize: model.decoder.configuration.hiddenSize, capacity: 1)
    for (position, token) in (prompt + plain.dropLast()).enumerated() {
      let rows = [BatchRow(cache: cache, position: position)]
      try model.decoder.embed([token], into: state)
      for layer in 0..<4 {
        if layer >= depth, position < prompt.count - LanguageModel.deepPromptTokens {
          try model.decoder.propagate(state, rows: rows, layers: layer..<layer + 1)
        } else {
          try model.decoder.advance(state, rows: rows, layers: layer..<layer + 1)
        }
        expected[layer + 1, default: []].append(state[0])
      }
    }
    #expect(Set(listener.rows.keys) == [1, 3, 4])
    for (layer, rows) in listener.rows {
      #expect(rows.count >= prompt.count + plain.count - 2)
      #expect(expected[layer]?.starts(with: rows) == true, "\(layer)")
    }
  }

  @Test("Drafting with a head gives the tokens of plain decoding, alone and beside look-up")
  func exactness() throws {
    var random = SplitMix64(seed: 23)
    var accepted = 0
    var rollbacks = 0
    for seed in 1...3 as ClosedRange<UInt64> {
      // The less the layers change, the more an embedding tells of what follows.
      var pair = try Pair(
        seed: seed, layers: 3, weightScale: 0.06 + 0.04 * Float(seed), token: 1, state: 0.05, layer: 1,
        shortlist: seed == 2 ? Array(40..<200) : [])
      if seed == 3 { pair.files.addMap(layer: 2, 0.05) }
      let head = try pair.head()
      let found = try expectExact(pair.model, cases: 200, random: &random) {
        number, model, prompt, options, _ in
        try SpeculationStrategy(
          number % 5 == 0 ? [.promptLookup, .head(head)] : [.head(head)], for: model, rule: .exact,
          fallback: number % 3 == 0 ? 0.02 : 0, draftLength: 1 + number % 8
        ).makeSession(prompt: prompt, options: options, choosesLength: number % 5 == 0)
      }
      accepted += found.accepted
      rollbacks += found.rollbacks
    }
    // The test says nothing unless drafts were taken, and others were not.
    #expect(accepted > 500)
    #expect(rollbacks > 500)
  }

  @Test("Above 0 tokens are chosen from shortlist and prompt, and stay as near as the threshold says")
  func shortlist() throws {
    let list = Array(40..<120)
    let pair = try Pair(
      seed: 9, layers: 3, weightScale: 0.18, token: 1, state: 0.3, layer: 1, shortlist: list)
    let model = pair.model.ending(with: [])
    let head = try pair.head()
    var random = SplitMix64(seed: 5)
    var (own, drafted, beyond) = (0, 0, 0)
    for _ in 0..<6 {
      let prompt = randomPrompt(&random, count: 8) + [200, 150]
      let candidates = list + [200, 150]
      for threshold in [Double.leastNonzeroMagnitude, 3, 6] {
        let found = try run(
          SpeculationStrategy(
            [.head(head)], for: model, rule: .rollback(threshold: threshold), fallback: 0, draftLength: 4
          ).makeSession(prompt: prompt, options: GenerationOptions(maxTokens: 16)))
        #expect(found.statistics.shortlistSteps == found.statistics.steps)
        let output = found.generation.tokenIDs
        let states = try states(model, of: prompt + output)
        var logits: [Float] = []
        // The first token comes from the prompt's pass.
        for place in 1..<output.count {
          let row = prompt.count + place - 1
          try model.decoder.logits(of: states, rows: row..<row + 1, into: &logits)
          let best = try #require(candidates.max { logits[$0] < logits[$1] })
          if logits.indices.contains(where: { logits[$0] > logits[best] }) { beyond += 1 }
          guard output[place] != best else {
            own += 1
            continue
          }
          drafted += 1
          let sum = candidates.reduce(0) { $0 + exp(Double(logits[$1])) }
          #expect(log(sum) - Double(logits[output[place]]) <= threshold + 1e-5)
          #expect(threshold > 0.1 && candidates.contains(output[place]))
        }
      }
    }
    // The test says nothing unless drafts changed the output and the shortlist did.
    #expect(own > 50)
    #expect(drafted > 20)
    #expect(beyond > 20)
  }

  @Test(
    "A sweep over rollback thresholds gives what a session of its own gives at each",
    arguments: [[], Array(40..<200)])
  func sweep(shortlist: [TokenID]) throws {
    let pair = try Pair(
      seed: 9, layers: 3, weightScale: 0.18, token: 1, state: 0.3, layer: 1, shortlist: shortlist)
    let head = try pair.head()
    let model = pair.model.ending(with: [])
    let options = GenerationOptions(maxTokens: 20)
    var random = SplitMix64(seed: 8)
    var pieces = 0
    for _ in 0..<10 {
      let prompt = randomPrompt(&random, count: 12)
      func strategy(_ threshold: Double) throws -> SpeculationStrategy {
        try SpeculationStrategy(
          [.head(head)], for: model, rule: .rollback(threshold: threshold), fallback: 0, draftLength: 4)
      }
      let found = try #require(try RollbackSweep(try strategy(0)).run(prompt, options: options))
      #expect(found[0].generation == (try model.plain(prompt, options)))
      for piece in found {
        let own = try run(
          strategy(piece.threshold).makeSession(prompt: prompt, options: options, choosesLength: false))
        #expect(own.generation == piece.generation)
        #expect(own.statistics.bytesRead == piece.statistics.bytesRead)
      }
      // With a shortlist the smallest threshold has a piece of its own, whatever it gives.
      if !shortlist.isEmpty { #expect(found[1].threshold == .leastNonzeroMagnitude) }
      let grid = [0.25, 1, 4]
      let coarse = try #require(try RollbackSweep(try strategy(0), grid: grid).run(prompt, options: options))
      for threshold in grid {
        let own = try run(
          strategy(threshold).makeSession(prompt: prompt, options: options, choosesLength: false))
        #expect(own.generation == coarse.last { $0.threshold <= threshold }?.generation)
      }
      pieces += found.count
    }
    #expect(pieces > 15)
  }

  @Test("A head is refused where exits leave no states for it, with the sentence that says so")
  func noExits() throws {
    let pair = try Pair(seed: 2, layers: 3, token: 1, state: 0, layer: 1)
    let head = try pair.head()
    let exits = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0.5, layers: [1]), measure: SoftmaxConfidence())
    let error = #expect(throws: SpeculativeDecodingError.self) {
      try SpeculationStrategy([.head(head)], for: pair.model, exits: exits, rule: .exact)
    }
    #expect(
      error?.description.contains("found a draft head") == true
        || error?.description.contains("is a draft head") == true)
  }

  @Test("Heads of other models, of other shapes and damaged ones are refused by name")
  func badFiles() throws {
    let sound = try Pair(seed: 3, layers: 2, token: 1, state: 0, layer: 1, shortlist: [64, 65, 66])
    func refusal(_ words: [String], _ edit: (inout TinyDraftHead) -> Void) throws {
      var pair = sound
      edit(&pair.files)
      do {
        _ = try SpeculationStrategy([.head(try pair.head())], for: pair.model, rule: .exact)
        Issue.record("not refused: \(words)")
      } catch {
        for word in words { #expect("\(error)".contains(word), "\(error)") }
      }
    }
    func change(_ name: String, _ edit: @escaping (inout TensorFile.Tensor) -> Void)
      -> (inout TinyDraftHead) -> Void
    {
      { files in
        for index in files.tensors.indices where files.tensors[index].name == name {
          edit(&files.tensors[index])
        }
      }
    }
    try refusal(["head.safetensors", "SHA-256", "model"], { $0.description["model_sha256"] = "00" })
    try refusal(["head.safetensors", "SHA-256"], { $0.description["head_sha256"] = "00" })
    try refusal(["head.json", "draft_head_version", "found 1"], { $0.description["draft_head_version"] = 1 })
    try refusal(["head.json", "the description of a draft head"], { $0.description["model"] = NSNull() })
    try refusal(
      ["head.safetensors", "blk.0.attn_k.weight", "finite"],
      change("blk.0.attn_k.weight") { $0.values[3] = .nan })
    try refusal(["map.token", "none"], { $0.tensors.removeAll { $0.name == "map.token" } })
    try refusal(["map.state", "[64, 64]"], change("map.state") { $0.shape = [32, 128] })
    try refusal(
      ["map.state.1", "[64, 64]"],
      {
        $0.addMap(layer: 1)
        $0.tensors[$0.tensors.count - 1].shape = [32, 128]
      })
    for name in ["map.state.0", "map.state.99", "map.state.-1", "map.state.\u{1b}", "map.state."] {
      try refusal(
        ["map.state.", "a layer in 1..."],
        {
          $0.addMap(layer: 1)
          $0.tensors[$0.tensors.count - 1].name = name
        })
    }
    try refusal(["blk.0.ffn_up.weight"], { $0.tensors.removeAll { $0.name == "blk.0.ffn_up.weight" } })
    try refusal(["blk.0.attn_q.weight"], change("blk.0.attn_q.weight") { $0.shape = [32, 128] })
    try refusal(["shortlist", "token numbers", "0.5"], change("shortlist") { $0.values[0] = 0.5 })
    try refusal(["shortlist", "1000"], change("shortlist") { $0.values[0] = 1000 })
    try refusal(["shortlist", "twice"], change("shortlist") { $0.values[0] = 65 })
  }
}
