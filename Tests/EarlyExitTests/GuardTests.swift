import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct GuardTests {
  private static let digest = String(repeating: "0f", count: 32)
  private static let other = String(repeating: "a1", count: 32)
  private let model: LanguageModel
  private let directory: TemporaryDirectory

  init() throws {
    var tiny = TinyDecoder()
    tiny.layerCount = 4
    tiny.vocabularySize = 320
    directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    model = LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: .plain, endTokens: [5, 6, 7])
  }

  /// Normal deviates, with more spread on the first axes, around a centre.
  private static func draws(_ count: Int, size: Int = 12, shift: Float = 0, seed: UInt64) -> [[Float]] {
    var numbers = SplitMix64(seed: seed)
    func normal() -> Float {
      var sum: Float = 0
      for _ in 0..<12 { sum += Float(numbers.next() >> 40) / Float(1 << 24) }
      return sum - 6
    }
    return (0..<count).map { _ in
      (0..<size).map { axis in 0.3 * Float(axis) + shift + normal() / Float(1 + axis) }
    }
  }

  private static func makeGuard(
    _ fitting: [[Float]], _ heldBack: [[Float]], level: Double = ApplicabilityGuard.usualLevel
  ) throws -> ApplicabilityGuard {
    try ApplicabilityGuard(
      fitting: fitting, heldBack: heldBack, level: level, modelDigest: digest, documentsDigest: other)
  }

  /// A guard that knows documents around a prompt only.
  private func makeGuard(around prompt: [TokenID]) throws -> ApplicabilityGuard {
    let center = try #require(try model.promptProfile(prompt, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    return try Self.makeGuard(Array(near[..<20]), [center] + Array(near[20...]))
  }

  @Test func `the distance is Mahalanobis' with a ridge on every axis`() throws {
    let fitting = Self.draws(30, seed: 1)
    let size = fitting[0].count
    // The same by the definition: the inverse of C + ρI, by elimination.
    var mean = [Double](repeating: 0, count: size)
    for row in fitting { for axis in 0..<size { mean[axis] += Double(row[axis]) / Double(fitting.count) } }
    var matrix = [[Double]](repeating: [Double](repeating: 0, count: size), count: size)
    for row in fitting {
      for i in 0..<size {
        for j in 0..<size {
          matrix[i][j] += (Double(row[i]) - mean[i]) * (Double(row[j]) - mean[j]) / Double(fitting.count)
        }
      }
    }
    let ridge = 0.1 * (0..<size).reduce(0) { $0 + matrix[$1][$1] } / Double(size)
    for axis in 0..<size { matrix[axis][axis] += ridge }
    func distance(_ row: [Float]) -> Double {
      var a = matrix
      var b = row.indices.map { Double(row[$0]) - mean[$0] }
      let v = b
      for i in 0..<size {
        for j in i + 1..<size {
          let factor = a[j][i] / a[i][i]
          for k in i..<size { a[j][k] -= factor * a[i][k] }
          b[j] -= factor * b[i]
        }
      }
      for i in (0..<size).reversed() {
        for k in i + 1..<size { b[i] -= a[i][k] * b[k] }
        b[i] /= a[i][i]
      }
      return zip(v, b).reduce(0) { $0 + $1.0 * $1.1 }
    }
    let heldBack = Self.draws(19, seed: 2)
    let found = try Self.makeGuard(fitting, heldBack)
    let scores = heldBack.map(distance).sorted()
    // 19 held back and α = 0.05: the largest score is the cutoff, and ranks tell every distance from every other.
    for row in Self.draws(200, seed: 3) + Self.draws(50, shift: 0.5, seed: 4) {
      let score = distance(row)
      let look = found.look(at: row)
      let expected = Double(1 + scores.filter { $0 >= score }.count) / 20
      // Rounding may decide where two scores are equal to six digits.
      guard scores.allSatisfy({ abs($0 - score) > 1e-4 * score }) else { continue }
      #expect(look.pValue == expected)
      #expect(look.isInside == (score <= scores[18]))
    }
  }

  @Test func `of documents like the others the share asked for is outside, and of foreign ones all are`()
    throws
  {
    var outside = 0.0
    for seed in 0..<40 {
      let found = try Self.makeGuard(
        Self.draws(40, seed: UInt64(3 * seed + 100)), Self.draws(39, seed: UInt64(3 * seed + 101)), level: 0.1
      )
      outside += Self.draws(200, seed: UInt64(3 * seed + 102)).reduce(0) {
        $0 + (found.look(at: $1).isInside ? 0 : 1.0 / 8000)
      }
      #expect(Self.draws(50, shift: 4, seed: 7).allSatisfy { !found.look(at: $0).isInside })
    }
    // 0.1 exactly, on average over guards; 40 guards leave ± 0.008.
    #expect(abs(outside - 0.1) < 0.025, "\(outside)")
  }

  @Test func `what cannot be fitted is refused, and what is no number is outside`() throws {
    let rows = Self.draws(20, seed: 1)
    func refusal(_ fitting: [[Float]], _ heldBack: [[Float]], level: Double = 0.05) -> String {
      do {
        _ = try Self.makeGuard(fitting, heldBack, level: level)
        return ""
      } catch { return "\(error)" }
    }
    #expect(
      refusal(Array(rows[..<7]), rows).contains("8 documents to fit and as many held back, found 7 and 20"))
    #expect(refusal(rows, Array(rows[..<5])).contains("found 20 and 5"))
    #expect(refusal(Array(repeating: rows[0], count: 20), rows).contains("all equal"))
    #expect(refusal(rows, rows, level: 1).contains("above 0 and below 1"))
    #expect(refusal(rows, [[1]] + rows).contains("one size"))
    #expect(refusal([rows[0].map { _ in .nan }] + rows, rows).contains("finite"))
    let found = try Self.makeGuard(rows, rows)
    #expect(!found.look(at: rows[0].map { _ in .nan }).isInside)
    #expect(!found.look(at: [1, 2]).isInside)
  }

  @Test func `a file gives the guard back, and is refused when it is cut or another's`() throws {
    let made = try Self.makeGuard(Self.draws(20, seed: 1), Self.draws(20, seed: 2))
    let path = directory.path + "/guard.safetensors"
    try made.write(to: path)
    let digest = try FileDigest.sha256(path: path)
    func read(_ path: String, model: String = Self.digest, digest: String? = nil, size: Int = 12) throws
      -> ApplicabilityGuard
    {
      try ApplicabilityGuard(path: path, modelDigest: model, hiddenSize: size, digest: digest)
    }
    #expect(try read(path, digest: digest) == made)
    #expect(throws: GenerationError.self) { try read(path, model: Self.other) }
    #expect(throws: GenerationError.self) { try read(path, digest: Self.other) }
    #expect(throws: GenerationError.self) { try read(path, size: 13) }
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    for count in stride(from: 0, to: bytes.count, by: 97) {
      let cut = try directory.write("cut.safetensors", Array(bytes.prefix(count)))
      #expect(throws: (any Error).self) { try read(cut) }
    }
    #expect(throws: CheckpointError.self) { try read(directory.path + "/none.safetensors") }
  }

  @Test func `large models' guards are fitted on fewer documents, and stay small`() throws {
    let rows = Self.draws(200, size: 4096, seed: 5)
    let made = try Self.makeGuard(Array(rows[..<150]), Array(rows[150...]))
    #expect(made.fittedCount < 150 && made.heldBackCount == 50)
    let path = directory.path + "/large.safetensors"
    try made.write(to: path)
    let size = try #require(
      try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
    #expect(size <= ApplicabilityGuard.largestFile)
  }

  private static let strategy = ExitStrategy(
    policy: OnlyLayer(layer: 1), measure: SoftmaxConfidence())

  /// Always leaves after one layer.
  private struct OnlyLayer: ExitPolicy {
    var layer: Int
    func exitLayers(layerCount: Int) -> [Int] { [layer] }
    func decide(_ observation: ExitObservation) -> ExitDecision { .exit(layer: layer, reason: .confident) }
  }

  @Test func `what is outside is decoded at full depth, alone and in batches`() throws {
    let (known, foreign) = ([20, 30, 40, 50], [100, 200, 210])
    var options = GenerationOptions(maxTokens: 8)
    options.applicability = try makeGuard(around: known)
    func run(
      _ prompt: [TokenID], _ options: GenerationOptions, exits: ExitStrategy? = nil
    ) throws -> Generation {
      let session = try model.makeSession(
        prompt: prompt, options: options, exits: exits, shouldStop: { false })
      while try session.next() != nil {}
      return session.generation
    }
    let inside = try run(known, options, exits: Self.strategy)
    #expect(inside.applicability?.isInside == true)
    #expect(inside.layers.dropFirst().allSatisfy { $0 == 1 })
    let outside = try run(foreign, options, exits: Self.strategy)
    #expect(outside.applicability == Applicability(isInside: false, pValue: 1.0 / 22))
    #expect(outside.layers.allSatisfy { $0 == 4 })
    #expect(try outside.tokenIDs == run(foreign, GenerationOptions(maxTokens: 8)).tokenIDs)
    let together = try #require(
      try BatchDecoder(model: model, shouldStop: { false }).run(
        prompts: [known, foreign], options: options, strategy: Self.strategy))
    #expect(together == [inside, outside])
  }

  @Test func `a sweep has one piece of what is outside`() throws {
    let (known, foreign) = ([20, 30, 40, 50], [100, 200, 210])
    let applicability = try makeGuard(around: known)
    for cache in [ExitCachePolicy.defer, .propagate] {
      let policy = try ThresholdPolicy(threshold: 0, layers: [1, 2])
      let strategy = ExitStrategy(policy: policy, measure: SoftmaxConfidence(), cachePolicy: cache)
      let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
      var pieces: [[ExitSweep.Piece]] = []
      for isGuarded in [false, true] {
        var options = GenerationOptions(maxTokens: 8)
        if isGuarded { options.applicability = applicability }
        let requests = [known, foreign].map { ExitSweep.Request(prompt: $0, options: options) }
        _ = try sweep.run(requests, shouldStop: { false }) { pieces.append($1) }
      }
      #expect(pieces[0].map(\.generation.tokenIDs) == pieces[2].map(\.generation.tokenIDs))
      #expect(pieces[1].count > 1 && pieces[3].count == 1)
      #expect(pieces[3][0].generation.tokenIDs == pieces[1][0].generation.tokenIDs)
      #expect(pieces[2].allSatisfy { $0.generation.applicability?.isInside == true })
      #expect(pieces[3][0].generation.applicability?.isInside == false)
    }
  }
}
