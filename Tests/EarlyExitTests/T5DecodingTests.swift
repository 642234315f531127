import Checkpoints
import EarlyExit
import Foundation
import Generation
import TestSupport
import Testing
import Tokenization
import Transformers

/// Everything that decodes, on an encoder–decoder.
@Suite struct T5DecodingTests {
  private static func tests() -> URL {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  }

  /// A random model whose tokens are bytes, ending its texts with 258.
  static func tiny(_ seed: UInt64 = 1, compute: ComputePath = .quantized) throws -> LanguageModel {
    var tiny = TinyT5()
    tiny.layerCount = 6
    tiny.vocabularySize = 320
    tiny.seed = seed
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    return LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, compute: compute, threads: 1),
      tokenizer: ByteTokenizer(), promptTemplate: nil, endTokens: [], sourceEnd: 258)
  }

  private struct Expected: Decodable {
    struct Case: Decodable {
      struct Beams: Decodable {
        var beams: Int
        var length_penalty: Double
        var ids: [Int]
      }
      var source: [Int]
      var beams: [Beams]
    }
    var cases: [Case]
  }

  @Test(arguments: ["t5", "t5_1_1"])
  func `beams give what transformers gives`(_ name: String) throws {
    let folder = Self.tests().appending(path: "TransformersTests/Fixtures/\(name)")
    let decoder = try Transformer(
      checkpoint: Checkpoint.open(folder.path), compute: .float32, threads: 1)
    let model = LanguageModel(
      name: name, decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: nil, endTokens: [1])
    let expected = try JSONDecoder().decode(
      Expected.self, from: Data(contentsOf: folder.appending(path: "expected.json")))
    var lengths: Set<Int> = []
    for item in expected.cases {
      for beams in item.beams {
        let search = BeamSearch(beams: beams.beams, lengthPenalty: beams.length_penalty)
        let found = try #require(
          try model.generate(
            prompt: item.source, search: search, options: GenerationOptions(maxTokens: 20)))
        #expect(found.tokenIDs == beams.ids, "\(beams.beams) beams, penalty \(beams.length_penalty)")
        #expect(found.promptTokenIDs == item.source)
        lengths.insert(found.tokenIDs.count)
      }
    }
    #expect(lengths.count > 2)
  }

  @Test func `one beam is greedy decoding, more find outputs at least as probable`() throws {
    for seed in 1...4 as ClosedRange<UInt64> {
      let model = try Self.tiny(seed)
      let prompt = try model.prompt(raw: "some text")
      let options = GenerationOptions(maxTokens: 12)
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      let one = try model.generate(prompt: prompt, search: BeamSearch(beams: 1), options: options)
      #expect(one == session.generation)
    }
  }

  @Test func `beams do not go with what they cannot do`() throws {
    let model = try Self.tiny()
    func run(_ search: BeamSearch, _ options: GenerationOptions = GenerationOptions(maxTokens: 3)) throws {
      _ = try model.generate(prompt: [5], search: search, options: options)
    }
    for search in [
      BeamSearch(beams: 0), BeamSearch(beams: 65), BeamSearch(beams: 2, lengthPenalty: .nan),
    ] {
      #expect(throws: GenerationError.self) { try run(search) }
    }
    let beams = BeamSearch(beams: 2)
    #expect(throws: GenerationError.self) { try run(beams, GenerationOptions(stopStrings: ["x"])) }
    #expect(throws: GenerationError.self) {
      try run(beams, GenerationOptions(sampling: .random(RandomSampling(seed: 1))))
    }
    #expect(try model.generate(prompt: [5], search: beams, shouldStop: { true }) == nil)
  }

  @Test func `a batch gives each source what it gets alone`() throws {
    let model = try Self.tiny(2)
    let prompts = try ["one", "another text", "a third text that is longer than the others"].map {
      try model.prompt(raw: $0)
    }
    let options = GenerationOptions(maxTokens: 20)
    let batch = try #require(try BatchDecoder(model: model).run(prompts: prompts, options: options))
    for (prompt, generation) in zip(prompts, batch) {
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      #expect(session.generation == generation)
      #expect(generation.promptTokenIDs == prompt && prompt.last == 258)
    }
    #expect(Set(batch.map(\.tokenIDs)).count == 3)
  }

  @Test func `texts that are empty or too long are refused, and long documents are cut`() throws {
    let model = try Self.tiny()
    let options = GenerationOptions(maxTokens: 5)
    #expect(throws: GenerationError.emptyText(field: "prompt")) {
      try model.makeSession(prompt: [], options: options)
    }
    #expect(throws: GenerationError.sourceTooLong(tokens: 97, limit: 96)) {
      try model.makeSession(prompt: Array(repeating: 97, count: 97), options: options)
    }
    // All 96 of them are read, for the output takes none of their room.
    let full = try model.makeSession(prompt: Array(repeating: 97, count: 96), options: options)
    while try full.next() != nil {}
    #expect(full.generation.tokenIDs.count == 5)
    var notes: [LongDocumentNote] = []
    let prompt = try #require(
      try model.makePrompt(
        for: .summarize, document: String(repeating: "word ", count: 40), options: options,
        rule: .truncate, observe: { notes.append($0) }))
    #expect(prompt.count <= 96 && notes.count == 1)
    #expect(prompt.starts(with: "summarize: word".utf8.map(Int.init)) && prompt.last == 258)
    let raw = try model.prompt(for: .summarize, document: "word", raw: true)
    #expect(raw == "word".utf8.map(Int.init) + [258])
  }

  @Test(arguments: ExitCachePolicy.allCases, [0, 1, 2])
  func `the threshold 1 is full depth`(cache: ExitCachePolicy, measure: Int) throws {
    let model = try Self.tiny(3)
    let measures: [any ConfidenceMeasure] = [
      SoftmaxConfidence(), SaturationConfidence(),
      ClassifierConfidence(
        Dictionary(
          uniqueKeysWithValues: (1..<6).map {
            ($0, ClassifierConfidence.Weights(weights: Array(repeating: 0, count: 64), bias: 100))
          })),
    ]
    let prompt = try model.prompt(raw: "What is near?")
    func run(_ threshold: Double?) throws -> (Generation, [[UInt8]]) {
      let exits = try threshold.map {
        ExitStrategy(
          policy: try ThresholdPolicy(threshold: $0), measure: measures[measure], cachePolicy: cache)
      }
      let session = try model.makeSession(
        prompt: prompt,
        options: GenerationOptions(
          maxTokens: 24, sampling: .random(RandomSampling(temperature: 1.5, seed: 5))), exits: exits)
      while try session.next() != nil {}
      let bytes = (0..<6).flatMap { layer in
        (0..<24).map { session.cache.storedBytes(layer: layer, position: $0) }
      }
      return (session.generation, bytes)
    }
    let plain = try run(nil)
    let exact = try run(1)
    #expect(exact.0 == plain.0 && exact.1 == plain.1)
    #expect(try run(0).0.layers == [6] + Array(repeating: 1, count: 23))
  }

  @Test(arguments: [1, 3, 16])
  func `deferred completion leaves the cache of a full-depth run`(group: Int) throws {
    let model = try Self.tiny(4)
    let prompt = try model.prompt(raw: "What is near?")
    let exits = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0.2), measure: SoftmaxConfidence(), groupLimit: group)
    let session = try model.makeSession(
      prompt: prompt, options: GenerationOptions(maxTokens: 24), exits: exits)
    while try session.next() != nil {}
    try session.completeCache()
    let tokens = [0] + session.generation.tokenIDs.dropLast()
    let cache = try model.decoder.makeCache(capacity: tokens.count)
    try model.decoder.sourceEncoder?.encode(prompt, into: cache)
    let states = HiddenStates(hiddenSize: 64, capacity: tokens.count)
    try model.decoder.embed(tokens, into: states)
    try model.decoder.advance(
      states, rows: tokens.indices.map { BatchRow(cache: cache, position: $0) }, layers: 0..<6)
    for layer in 0..<6 {
      for position in tokens.indices {
        #expect(
          session.cache.storedBytes(layer: layer, position: position)
            == cache.storedBytes(layer: layer, position: position))
      }
    }
  }

  @Test func `exit heads are fitted and swept on it`() throws {
    let model = try Self.tiny(5)
    var fitter = try ExitHeadFitter(model: model, layers: [2, 4])
    let options = GenerationOptions(maxTokens: 30)
    for index in 0..<10 {
      let prompt = try model.prompt(raw: "text number \(index)")
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      try fitter.add(session.generation, isHeldOut: index % 5 == 4)
    }
    let (heads, description) = try fitter.fit(name: "tiny", digest: "0")
    #expect(heads.maps.count == 2 && description.fittedTokens == 8 * 30)
    let policy = try ThresholdPolicy(threshold: 1, layers: [2, 4])
    let sweep = try ExitSweep(
      model: model,
      strategy: ExitStrategy(policy: policy, measure: SoftmaxConfidence(), heads: heads), policy: policy)
    let prompt = try model.prompt(raw: "a text")
    let pieces = try #require(try sweep.run(prompt, options: GenerationOptions(maxTokens: 8)))
    #expect(pieces.count > 1 && pieces.first?.threshold == 1)
    for piece in pieces {
      let session = try model.makeSession(
        prompt: prompt,
        options: GenerationOptions(
          maxTokens: 8),
        exits: ExitStrategy(
          policy: policy.with(threshold: piece.threshold), measure: SoftmaxConfidence(), heads: heads))
      while try session.next() != nil {}
      #expect(session.generation.tokenIDs == piece.generation.tokenIDs)
    }
  }

  @Test func `a directory is loaded with its tokenizer, its prefix and its end token`() throws {
    let model = try Data(
      contentsOf: Self.tests().appending(path: "TokenizationTests/Fixtures/unigram.model"))
    let directory = try TemporaryDirectory()
    try TinyT5().write(to: directory)
    #expect {
      try LanguageModel(path: directory.path)
    } throws: {
      "\($0)".contains("tokenizer.json, tokenizer.model or spiece.model")
    }
    try directory.write("spiece.model", Array(model))
    let loaded = try LanguageModel(path: directory.path, threads: 1)
    #expect(loaded.hasEncoder && loaded.summaryPrefix == "summarize: ")
    let end = loaded.tokenizer.id(ofSpecial: "</s>")
    #expect(loaded.sourceEnd == end && loaded.endTokens == [1])
    // One hundred sentinels after the pieces.
    let pieces = try SentencePieceTokenizer(model: Array(model)).vocabularySize
    #expect(loaded.tokenizer.id(ofSpecial: "<extra_id_99>") == pieces)
    #expect(loaded.tokenizer.id(ofSpecial: "<extra_id_0>") == pieces + 99)
    let prompt = try loaded.prompt(for: .summarize, document: "The quick brown fox")
    #expect(
      try prompt == loaded.tokenizer.encode("summarize: The quick brown fox") + [try #require(end)])
    var small = TinyT5()
    small.vocabularySize = 200
    try small.write(to: directory)
    // Sentinels without a row are no reason to refuse the model.
    let fewer = try LanguageModel(path: directory.path, threads: 1)
    #expect(
      fewer.decoder.configuration.vocabularySize == 200 && fewer.tokenizer.vocabularySize == pieces + 100)
  }
}
