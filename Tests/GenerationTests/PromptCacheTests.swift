import Checkpoints
import FileFormats
import Foundation
import Generation
import TestSupport
import Testing
import Transformers

/// Keys and values of prompts in files.
@Suite struct PromptCacheTests {
  static let digest = String(repeating: "ab", count: 32)

  static func model(
    seed: UInt64 = 1, cacheBits: Int? = nil, compute: ComputePath = .quantized, threads: Int = 1
  ) throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.seed = seed
    tiny.layerCount = 3
    tiny.contextLength = 700
    let directory = try TemporaryDirectory()
    return try LanguageModel(
      path: directory.write("tiny.gguf", tiny.gguf().build()), compute: compute, cacheBits: cacheBits,
      threads: threads, promptTemplate: .plain)
  }

  static func prompt(_ count: Int, seed: UInt64 = 3) -> [TokenID] {
    var numbers = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int(numbers.next() % 256) }
  }

  struct Outcome {
    var generation: Generation
    var reused: Int?
    var isWritten: Bool
  }

  /// Decodes a prompt with a file, which is written where it lacks the prompt.
  static func decode(
    _ model: LanguageModel, _ prompt: [TokenID], _ path: String, digest: String = digest,
    strategy: any DecodingStrategy = FullDepth(), _ change: (inout GenerationOptions) -> Void = { _ in }
  ) throws -> Outcome {
    var options = GenerationOptions(maxTokens: 12)
    change(&options)
    let cache = try PromptCache(path: path, model: model, modelDigest: digest)
    options.promptCache = cache
    let session = try model.makeSession(
      prompt: prompt, options: options, strategy: strategy, shouldStop: { false })
    while try session.next() != nil {}
    let reused = PromptCache.reusedTokens(of: session)
    return Outcome(generation: session.generation, reused: reused, isWritten: try cache.save(session))
  }

  private func plain(
    _ model: LanguageModel, _ prompt: [TokenID], _ change: (inout GenerationOptions) -> Void = { _ in }
  ) throws -> Generation {
    var options = GenerationOptions(maxTokens: 12)
    change(&options)
    let session = try model.makeSession(prompt: prompt, options: options, shouldStop: { false })
    while try session.next() != nil {}
    return session.generation
  }

  @Test(arguments: [16, 8], [17, 40, 256, 300, 530])
  func `what goes on from a file is what reading gives`(bits: Int, count: Int) throws {
    let model = try Self.model(cacheBits: bits, threads: 2)
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    let prompt = Self.prompt(count)
    func record(_ options: inout GenerationOptions) { options.topProbabilities = 3 }
    let expected = try plain(model, prompt, record)
    let first = try Self.decode(model, prompt, path, record)
    #expect(first.generation == expected && first.reused == 0 && first.isWritten)
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600, "a file has what a document says")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    let second = try Self.decode(model, prompt, path, record)
    #expect(second.generation == expected && second.reused == count - 1 && !second.isWritten)
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == bytes)
    // Another question about the same document: what is common is not read, and the file is of the new prompt.
    for (kept, tail) in [(count - 1, 9), (count / 2 + 8, 60), (count, 1)] {
      let other = Array(prompt[..<kept]) + Self.prompt(tail, seed: 8).map { ($0 + 1) % 256 }
      let common = zip(prompt, other).prefix { $0.0 == $0.1 }.count
      let found = try Self.decode(model, other, path, record)
      #expect(found.generation == (try plain(model, other, record)) && found.isWritten)
      #expect(found.reused == (common >= PromptCache.shortestBeginning ? min(common, other.count - 1) : 0))
      #expect(try PromptCache(path: path, model: model, modelDigest: Self.digest).tokens == other)
      #expect(try Self.decode(model, prompt, path, record).generation == expected)
      // The same prompt makes the same file, whatever it went on from, unless it was in there already.
      let isSame = try Data(contentsOf: URL(fileURLWithPath: path)) == bytes
      #expect(isSame != other.starts(with: prompt))
      try directory.write("prompt.cache", bytes)
    }
    // A prompt that the file begins with is in it already.
    let short = Array(prompt[..<(count - 1)])
    let found = try Self.decode(model, short, path, record)
    #expect(found.generation == (try plain(model, short, record)) && !found.isWritten)
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["prompt.cache"])
  }

  @Test func `sampled outputs are the same, and so are parts and batches`() throws {
    let model = try Self.model()
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    let prompt = Self.prompt(300)
    func sample(_ options: inout GenerationOptions) {
      options.sampling = .random(RandomSampling(temperature: 0.9, seed: 5))
    }
    let expected = try plain(model, prompt, sample)
    for _ in 0..<2 { #expect(try Self.decode(model, prompt, path, sample).generation == expected) }
    var options = GenerationOptions(maxTokens: 12)
    sample(&options)
    options.promptCache = try PromptCache(path: path, model: model, modelDigest: Self.digest)
    let batch = BatchDecoder(model: model, prefixes: PrefixCache(byteLimit: 1 << 28), shouldStop: { false })
    for _ in 0..<3 { batch.submit(prompt: prompt, options: options) }
    var found: [Generation] = []
    while !batch.isIdle { found += try batch.step().map(\.generation) }
    #expect(found == [expected, expected, expected])
    // Another model does not go on from it, though its caches have the same shape.
    let other = try Self.model(seed: 2)
    #expect(try plain(other, prompt) { $0.promptCache = options.promptCache } == plain(other, prompt))
  }

  /// The guard's layer; `nil` for the last.
  @Test(arguments: [nil, 2])
  func `a guard finds the same`(layer: Int?) throws {
    let model = try Self.model()
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    let prompt = Self.prompt(300)
    let center = try #require(try model.promptProfile(prompt, layer: layer, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let guardian = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: Array(near[20...]), layer: layer, modelDigest: Self.digest,
      documentsDigest: Self.digest)
    func watch(_ options: inout GenerationOptions) { options.applicability = guardian }
    // Another end changes the mean, and so the score.
    let other = Array(prompt[..<250]) + Self.prompt(70, seed: 4)
    let expected = try [prompt, other].map { try plain(model, $0, watch) }
    #expect(expected[0].applicability?.isInside == true)
    #expect(expected[0].applicability != expected[1].applicability)
    // A file without the guard's sums: all is read, and the file then has them.
    #expect(try Self.decode(model, prompt, path).isWritten)
    let first = try Self.decode(model, prompt, path, watch)
    #expect(first.generation == expected[0] && first.reused == 0 && first.isWritten)
    let second = try Self.decode(model, prompt, path, watch)
    #expect(second.generation == expected[0] && second.reused == 288 && !second.isWritten)
    let third = try Self.decode(model, other, path, watch)
    #expect(third.generation == expected[1] && third.reused == 240 && third.isWritten)
    let fourth = try Self.decode(model, prompt, path, watch)
    #expect(fourth.generation == expected[0] && fourth.reused == 240 && fourth.isWritten)
    // Without a guard nobody asks for the sums.
    #expect(try Self.decode(model, prompt, path).reused == 299)
    // A guard of another layer needs sums of its own.
    let elsewhere = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: Array(near[20...]), layer: 1, modelDigest: Self.digest,
      documentsDigest: Self.digest)
    #expect(try Self.decode(model, prompt, path) { $0.applicability = elsewhere }.reused == 0)
  }

  @Test func `what a file is not for is refused`() throws {
    let model = try Self.model()
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    let prompt = Self.prompt(40)
    func expect(_ words: String, _ body: () throws -> Void, _ location: SourceLocation = #_sourceLocation) {
      #expect(performing: body, throws: { "\($0)".contains(words) })
    }
    expect("absent for prompts that stop after a layer") {
      _ = try Self.decode(model, prompt, path) { $0.promptDepth = 1 }
    }
    #expect(try Self.decode(model, prompt, path) { $0.promptDepth = 3 }.isWritten)
    expect("absent with beams") { _ = try Self.decode(model, prompt, path, strategy: BeamSearch(beams: 2)) }
    let checkpoint = try Checkpoint.open(directory.write("t5.gguf", TinyT5().gguf().build()))
    let encoder = LanguageModel(
      name: "t5", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: nil, endTokens: [1])
    expect("absent for an encoder-decoder") {
      _ = try PromptCache(path: path, model: encoder, modelDigest: Self.digest)
    }
    expect("absent with --compute float32") {
      _ = try PromptCache(path: path, model: Self.model(compute: .float32), modelDigest: Self.digest)
    }
    expect("keeps no keys and values") {
      _ = try PromptCache(path: path, model: LanguageModel.hashing().0, modelDigest: Self.digest)
    }
    expect("of another model, abab") {
      _ = try PromptCache(path: path, model: model, modelDigest: String(repeating: "cd", count: 32))
    }
    expect("of another way to compute, quantized, and this is quantized --cache-bits 8") {
      _ = try PromptCache(path: path, model: Self.model(cacheBits: 8), modelDigest: Self.digest)
    }
    expect("a directory") {
      _ = try PromptCache(path: directory.path, model: model, modelDigest: Self.digest)
    }
    expect("No such file or directory") {
      _ = try PromptCache(path: directory.path + "/none/a.cache", model: model, modelDigest: Self.digest)
    }
    for text in ["", "a document of mine, which must not be lost, however long it may be"] {
      let document = try directory.write("document.txt", text)
      expect("it is no file of keys and values; remove it, or name another file") {
        _ = try PromptCache(path: document, model: model, modelDigest: Self.digest)
      }
      #expect(try String(contentsOfFile: document, encoding: .utf8) == text)
    }
  }

  @Test func `a damaged file is refused`() throws {
    let model = try Self.model()
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    _ = try Self.decode(model, Self.prompt(40), path)
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
    func expect(_ words: String, _ bytes: [UInt8]) throws {
      try directory.write("prompt.cache", bytes)
      #expect {
        try PromptCache(path: path, model: model, modelDigest: Self.digest)
      } throws: {
        "\($0)".contains(words)
      }
    }
    try expect("should have", Array(bytes.dropLast()))
    try expect("should have", bytes + [0])
    try expect("should have", Array(bytes[..<(bytes.count / 2)]))
    for place in [bytes.count - 1, bytes.count / 2] {
      var changed = bytes
      changed[place] ^= 1
      try expect("its SHA-256 is another", changed)
    }
    var changed = bytes
    changed[8] = 2
    try expect("it is of version 2, and this program reads version 1", changed)
    changed = bytes
    changed[12] = 0
    try expect("its header", changed)
    let text = try #require(bytes.firstRange(of: Array(EgressVersion.program.utf8)))
    changed = bytes
    changed[text.upperBound - 1] = UInt8(ascii: "x")
    try expect("of another version of this program, egress", changed)
    // A file that was made with great care but is too long for the model.
    let count = try #require(bytes.firstRange(of: Array("\"tokens\":40".utf8)))
    changed = bytes
    changed.replaceSubrange(count.upperBound - 2..<count.upperBound, with: Array("999999999".utf8))
    let length = Int(bytes[12]) + Int(bytes[13]) << 8 + 7
    (changed[12], changed[13]) = (UInt8(length & 255), UInt8(length >> 8))
    try expect("999999999 tokens, where the model's context holds 700", changed)
  }

  @Test func `two that write at a time leave one whole file`() async throws {
    let model = try Self.model(threads: 2)
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    let prompts = (0..<4).map { Self.prompt(60 + 40 * $0, seed: UInt64($0)) }
    let expected = try prompts.map { try plain(model, $0) }
    // What a process left that was killed is in nobody's way.
    try directory.write("prompt.cache.partial", "half of a file")
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<4 {
        group.addTask { () throws -> Void in
          for round in 0..<8 {
            let index = (task + round) % 4
            let found = try Self.decode(model, prompts[index], path).generation
            #expect(found == expected[index])
          }
        }
      }
      try await group.waitForAll()
    }
    let left = try PromptCache(path: path, model: model, modelDigest: Self.digest)
    #expect(prompts.contains(left.tokens))
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["prompt.cache"])
  }

  @Test func `a link stays a link, and what cannot be written is said`() throws {
    let model = try Self.model()
    let directory = try TemporaryDirectory()
    let (path, link) = (directory.path + "/prompt.cache", directory.path + "/link.cache")
    _ = try Self.decode(model, Self.prompt(40), path)
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
    #expect(try Self.decode(model, Self.prompt(50), link).reused == 40)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
    #expect(try PromptCache(path: path, model: model, modelDigest: Self.digest).tokens.count == 50)
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    // A directory in the place of what is written beside it.
    try FileManager.default.createDirectory(atPath: path + ".partial", withIntermediateDirectories: false)
    #expect {
      try Self.decode(model, Self.prompt(60), path)
    } throws: {
      "\($0)".contains("expected a file that can be written")
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
  }

  // In a process of its own: what other tests need in memory at the same time is not counted.
  @Test(.timeLimit(.minutes(30)))
  func `10,000 mutants are refused or sound`() async {
    await #expect(processExitsWith: .success) { try PromptCacheTests.examineMutants() }
  }

  static func examineMutants() throws {
    let model = try model()
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    _ = try decode(model, prompt(20), path)
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
    let header = 16 + Int(bytes[12]) + Int(bytes[13]) << 8
    var random = SplitMix64(seed: 14)
    var loaded = 0
    for index in 0..<10_000 {
      var mutant =
        switch index % 3 {
        case 0: Mutation.edit(bytes, upTo: header, using: &random)
        case 1: Mutation.editText(bytes, upTo: header, using: &random)
        default: Mutation.edit(bytes, upTo: bytes.count, using: &random)
        }
      // Half of them have a seal that fits, as those of somebody who means harm have.
      if index % 2 == 0, mutant.count > 32 {
        mutant.replaceSubrange((mutant.count - 32)..., with: seal(mutant.dropLast(32)))
      }
      try directory.write("prompt.cache", mutant)
      do {
        let cache = try PromptCache(path: path, model: model, modelDigest: digest)
        #expect((1...model.contextLength).contains(cache.tokens.count))
        var options = GenerationOptions(maxTokens: 2)
        options.promptCache = cache
        let session = try model.makeSession(prompt: prompt(30), options: options, shouldStop: { false })
        while try session.next() != nil {}
        loaded += 1
      } catch {
        #expect(!"\(error)".isEmpty && "\(error)".utf8.count < 4096)
      }
    }
    // Neither everything nor nothing gets through, or the mutants would test little.
    #expect((100...8_000).contains(loaded), "\(loaded) loaded")
  }

  private static func seal(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    let folder = try? TemporaryDirectory()
    guard let path = try? folder?.write("sealed", Array(bytes)), let text = try? FileDigest.sha256(path: path)
    else {
      return []
    }
    let digits = Array(text)
    return stride(from: 0, to: digits.count, by: 2).compactMap {
      UInt8(String(digits[$0...$0 + 1]), radix: 16)
    }
  }
}
