import Checkpoints
import Foundation
import Generation
import TensorKernels
import TestSupport
import Testing
import Transformers

/// Prompts whose tokens stop after a layer.
@Suite struct PromptDepthTests {
  private static let layerCount = 6

  private static func model(_ compute: ComputePath = .quantized, threads: Int = 1) throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.layerCount = layerCount
    tiny.vocabularySize = 320
    tiny.contextLength = 700
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    return LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, compute: compute, threads: threads),
      tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [])
  }

  private static func prompt(_ count: Int, seed: UInt64 = 3) -> [TokenID] {
    var numbers = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int(numbers.next() % 256) }
  }

  private static func options(_ depth: Int?, maxTokens: Int = 12) -> GenerationOptions {
    var options = GenerationOptions(maxTokens: maxTokens)
    options.promptDepth = depth
    return options
  }

  private static func output(_ model: LanguageModel, _ prompt: [TokenID], _ options: GenerationOptions) throws
    -> Generation
  {
    let session = try model.makeSession(prompt: prompt, options: options, shouldStop: { false })
    while try session.next() != nil {}
    return session.generation
  }

  /// The same by the definition, a token and a layer at a time: what `advance` and `propagate` do for one row.
  private static func plainOutput(_ model: LanguageModel, _ prompt: [TokenID], depth: Int, count: Int) throws
    -> [TokenID]
  {
    let decoder = model.decoder
    let cache = try decoder.makeCache(capacity: prompt.count + count)
    let state = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: 1)
    var tokens = prompt
    var logits: [Float] = []
    while tokens.count < prompt.count + count {
      let start = tokens.count == prompt.count ? 0 : tokens.count - 1
      for position in start..<tokens.count {
        let row = [BatchRow(cache: cache, position: position)]
        try decoder.embed([tokens[position]], into: state)
        let isShallow = position < prompt.count - LanguageModel.deepPromptTokens
        for layer in 0..<layerCount {
          if isShallow, layer >= depth {
            try decoder.propagate(state, rows: row, layers: layer..<layer + 1)
          } else {
            try decoder.advance(state, rows: row, layers: layer..<layer + 1)
          }
        }
      }
      try decoder.logits(of: state, rows: 0..<1, into: &logits)
      tokens.append(logits.withUnsafeBufferPointer { Logits.argmax($0) })
    }
    return Array(tokens[prompt.count...])
  }

  @Test(arguments: [40, 256, 300, 530], [1, 3, 5])
  func `a prompt that stops after a layer is that of the definition`(count: Int, depth: Int) throws {
    let model = try Self.model()
    let prompt = Self.prompt(count)
    let found = try Self.output(model, prompt, Self.options(depth))
    #expect(found.tokenIDs == (try Self.plainOutput(model, prompt, depth: depth, count: 12)))
  }

  @Test func `a depth changes outputs, and the last layer none`() throws {
    let model = try Self.model(threads: 2)
    let prompts = (0..<8).map { Self.prompt(80 + $0, seed: UInt64($0)) }
    func outputs(_ depth: Int?) throws -> [[TokenID]] {
      try prompts.map { try Self.output(model, $0, Self.options(depth)).tokenIDs }
    }
    let full = try outputs(nil)
    #expect(try outputs(Self.layerCount) == full)
    #expect(try outputs(1) != full)
    // A prompt of the last tokens alone passes all layers.
    let short = Self.prompt(LanguageModel.deepPromptTokens)
    #expect(
      try Self.output(model, short, Self.options(1)).tokenIDs
        == Self.output(model, short, Self.options(nil)).tokenIDs)
  }

  @Test func `agreement along an output is that of the definition`() throws {
    let model = try Self.model()
    let sweep = try PromptDepthSweep(model: model, depths: [1, 3, 5])
    for count in [20, 70, 300] {
      let prompt = Self.prompt(count)
      // More tokens than are read at a time; they need not be the model's own.
      let output = Generation(
        text: "", tokenIDs: Self.prompt(45, seed: 9), promptTokenIDs: prompt, stopReason: .maxTokens)
      let found = try #require(try sweep.agreement(along: output, shouldStop: { false }))
      let choices = try sweep.depths.map { try Self.plainChoices(model, output, depth: $0) }
      #expect(found == choices.map { zip($0, choices[0]).count { $0 == $1 } })
      #expect(found[0] == output.tokenIDs.count)
      #expect((found[3] == found[0]) == (count <= LanguageModel.deepPromptTokens))
    }
  }

  /// The most probable token in the place of each of an output's, a token at a time.
  private static func plainChoices(_ model: LanguageModel, _ output: Generation, depth: Int) throws
    -> [TokenID]
  {
    let decoder = model.decoder
    let promptCount = output.promptTokenIDs.count
    let tokens = output.promptTokenIDs + output.tokenIDs.dropLast()
    let cache = try decoder.makeCache(capacity: tokens.count)
    let state = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: 1)
    var choices: [TokenID] = []
    var logits: [Float] = []
    for position in tokens.indices {
      let row = [BatchRow(cache: cache, position: position)]
      try decoder.embed([tokens[position]], into: state)
      let isShallow = position < promptCount - LanguageModel.deepPromptTokens && depth < layerCount
      try decoder.advance(state, rows: row, layers: 0..<(isShallow ? depth : layerCount))
      if isShallow { try decoder.propagate(state, rows: row, layers: depth..<layerCount) }
      guard position >= promptCount - 1 else { continue }
      try decoder.logits(of: state, rows: 0..<1, into: &logits)
      choices.append(logits.withUnsafeBufferPointer { Logits.argmax($0) })
    }
    return choices
  }

  @Test func `in a batch a prompt gets what it gets alone`() throws {
    let model = try Self.model()
    let requests = (0..<6).map {
      (prompt: Self.prompt(60 + 50 * $0, seed: UInt64($0)), depth: $0 % 2 == 0 ? 2 : nil)
    }
    let batch = BatchDecoder(model: model, prefixes: PrefixCache(byteLimit: 1 << 30), shouldStop: { false })
    // Twice, so that beginnings are there to be gone on from.
    for _ in 0..<2 {
      for request in requests { batch.submit(prompt: request.prompt, options: Self.options(request.depth)) }
    }
    var found: [Int: Generation] = [:]
    while !batch.isIdle { for (ticket, generation) in try batch.step() { found[ticket] = generation } }
    for index in 0..<12 {
      let request = requests[index % 6]
      #expect(
        found[index]?.tokenIDs
          == (try Self.output(model, request.prompt, Self.options(request.depth)).tokenIDs), "\(index)")
    }
  }

  @Test(arguments: [20, 90, 530])
  func `a sweep's outputs are those of each depth alone`(count: Int) throws {
    let model = try Self.model()
    let sweep = try PromptDepthSweep(model: model, depths: [2, 5, 1, 3])
    #expect(sweep.depths == [6, 5, 3, 2, 1])
    let prompt = Self.prompt(count, seed: 11)
    let pieces = try #require(
      try sweep.run(prompt, options: Self.options(nil), shouldStop: { false }))
    #expect(pieces.map(\.depth) == sweep.depths)
    for piece in pieces {
      let alone = try Self.output(model, prompt, Self.options(piece.depth))
      #expect(
        piece.generation.tokenIDs == alone.tokenIDs && piece.generation.text == alone.text, "\(piece.depth)")
    }
    #expect(try sweep.run(prompt, options: Self.options(nil), shouldStop: { true }) == nil)
  }

  @Test func `an output that loops goes on from prompt and output read again, in sweeps and batches too`()
    throws
  {
    var tiny = TinyDecoder()
    (tiny.layerCount, tiny.vocabularySize, tiny.contextLength) = (Self.layerCount, 320, 700)
    tiny.weightScale = 0.15
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    let model = LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: .plain, endTokens: [])
    let prompts = (0..<12).map { Self.prompt($0 == 5 ? 300 : 50 + 9 * $0, seed: UInt64($0)) }
    func options(_ depth: Int?) -> GenerationOptions {
      var options = Self.options(depth, maxTokens: 30)
      options.tripwire = RepetitionTripwire(limit: 1)
      return options
    }
    let sweep = try PromptDepthSweep(model: model, depths: [1, 2, 4])
    var trips = 0
    for prompt in prompts {
      let pieces = try #require(try sweep.run(prompt, options: options(nil), shouldStop: { false }))
      for piece in pieces {
        let alone = try Self.output(model, prompt, options(piece.depth))
        #expect(alone == piece.generation, "\(piece.depth)")
        // Full depth is not brought back to itself.
        if piece.depth == Self.layerCount {
          #expect(try alone == Self.output(model, prompt, Self.options(nil, maxTokens: 30)))
        }
        guard let kept = alone.trippedAt else { continue }
        trips += 1
        let begun = prompt + alone.tokenIDs.prefix(kept)
        let rest = try Self.output(model, begun, Self.options(nil, maxTokens: 30 - kept)).tokenIDs
        #expect(alone.tokenIDs.dropFirst(kept).elementsEqual(rest), "\(piece.depth)")
      }
    }
    #expect(trips > 4, "\(trips)")
    let batch = BatchDecoder(model: model, width: 5, promptParts: 1, shouldStop: { false })
    for prompt in prompts { batch.submit(prompt: prompt, options: options(2)) }
    while !batch.isIdle {
      for (ticket, generation) in try batch.step() {
        #expect(try generation == Self.output(model, prompts[ticket], options(2)), "\(ticket)")
      }
    }
  }

  @Test func `what a guard finds outside passes all layers, at every depth of a sweep too`() throws {
    let model = try Self.model()
    let known = Self.prompt(100, seed: 1)
    let other = Self.prompt(300, seed: 2)
    let center = try #require(try model.promptProfile(known, layer: 2, shouldStop: { false }))
    #expect(center != (try model.promptProfile(known, shouldStop: { false })))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let digest = String(repeating: "0f", count: 32)
    let found = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), layer: 2, modelDigest: digest,
      documentsDigest: digest)
    var options = Self.options(2)
    options.applicability = found
    let inside = try Self.output(model, known, options)
    #expect(inside.applicability?.isInside == true)
    #expect(inside.tokenIDs == (try Self.output(model, known, Self.options(2)).tokenIDs))
    let outside = try Self.output(model, other, options)
    #expect(outside.applicability?.isInside == false)
    let full = try Self.output(model, other, Self.options(nil))
    #expect(outside.tokenIDs == full.tokenIDs)
    // A guard that reads a layer is asked at full depth too.
    options.promptDepth = nil
    #expect(try Self.output(model, other, options).applicability == outside.applicability)
    let sweep = try PromptDepthSweep(model: model, depths: [2, 4])
    for (prompt, outputs) in [(known, inside), (other, outside)] {
      let pieces = try #require(try sweep.run(prompt, options: options, shouldStop: { false }))
      #expect(pieces.allSatisfy { $0.generation.applicability == outputs.applicability })
      #expect(pieces.last?.generation.tokenIDs == outputs.tokenIDs)
    }
    // Below the layer that it reads nothing is known in time.
    options.promptDepth = 1
    #expect(throws: GenerationError.self) { try Self.output(model, known, options) }
    let deeper = try PromptDepthSweep(model: model, depths: [1])
    #expect(throws: GenerationError.self) { try deeper.run(known, options: options, shouldStop: { false }) }
    // The layer goes to the file and comes back.
    let directory = try TemporaryDirectory()
    let path = directory.path + "/guard.safetensors"
    try found.write(to: path)
    let read = try ApplicabilityGuard(path: path, modelDigest: digest, hiddenSize: center.count)
    #expect(read == found && read.layer == 2)
  }

  @Test func `depths that a model does not have are refused`() throws {
    let model = try Self.model()
    for depth in [0, -1, 7] {
      let error = #expect(throws: GenerationError.self) {
        try Self.output(model, Self.prompt(50), Self.options(depth))
      }
      #expect("\(error, default: "")".contains("prompt-depth must be in 1...6, but is \(depth)"))
      #expect(throws: GenerationError.self) { try PromptDepthSweep(model: model, depths: [depth]) }
    }
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("t5.gguf", TinyT5().gguf().build()))
    let encoder = LanguageModel(
      name: "t5", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: nil, endTokens: [2], sourceEnd: 2)
    #expect(throws: GenerationError.self) {
      try encoder.makeSession(prompt: Self.prompt(20), options: Self.options(1), shouldStop: { false })
    }
  }
}
