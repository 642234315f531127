import ArgumentParser
import FileFormats
import Generation
import Transformers

/// Where the time of a pass goes, by the number of its tokens.
struct ProfileReport: Encodable {
  /// Seconds of one pass, on average.
  struct Pass: Encodable {
    /// By the name of a part; together they are the pass.
    var parts: [String: Double]
    var total: Double
    /// Of the total: what the calling thread waited for the others.
    var waiting: Double
    /// Times that work was shared out.
    var forks: Int
    /// Not of the total: choosing a token after each of its rows.
    var greedyChoice: Double
  }

  var model: String
  var threads: Int
  /// By the tokens of the pass.
  var passes: [String: Pass]

  private static let sizes = [1, 4, 8, 16]
  private static let rounds = 24
  private static let firstPosition = 256

  /// Measures a model's passes after 256 tokens.
  ///
  /// - Throws: ``CommandError`` for an encoder-decoder, `ExitCode` after an interruption.
  init(_ loaded: LoadedModel, threads: Int) throws {
    guard let decoder = loaded.model.decoder as? Transformer, !loaded.model.hasEncoder else {
      throw CommandError("\(loaded.model.name): --profile is for decoders")
    }
    let needed = Self.firstPosition + (Self.sizes.max() ?? 0)
    guard needed <= decoder.configuration.contextLength else {
      throw CommandError(
        "bench --profile needs a context of \(needed) tokens, but the model's is "
          + "\(decoder.configuration.contextLength)")
    }
    model = loaded.model.name
    self.threads = threads
    passes = [:]
    var runner = try PassRun(decoder, capacity: needed)
    try runner.run(Self.firstPosition, at: 0)
    for size in Self.sizes {
      // The first brings weights and buffers to where the others find them.
      try runner.run(size, at: Self.firstPosition)
      var total = 0.0
      let timeline = try decoder.timeline {
        for _ in 0..<Self.rounds {
          guard !Interrupt.isRequested else { throw ExitCode(Interrupt.exitCode) }
          total += try runner.run(size, at: Self.firstPosition)
        }
      }
      let rounds = Double(Self.rounds)
      var parts = timeline.seconds.mapValues { $0 / rounds }.reduce(into: [:]) {
        $0[$1.key.rawValue] = $1.value
      }
      parts["between"] = max(0, total / rounds - parts.values.reduce(0, +))
      passes[String(size)] = Pass(
        parts: parts, total: total / rounds, waiting: timeline.waitingSeconds / rounds,
        forks: timeline.forkCount / Self.rounds, greedyChoice: runner.greedyChoice(rows: size))
    }
  }

  func written(as format: OutputOptions.Format) throws -> String {
    format == .json ? try JSONOutput.line(self) + "\n" : text
  }

  private var text: String {
    let found = Self.sizes.compactMap { size in passes[String(size)].map { (size, $0) } }
    func line(_ name: String, _ cell: (Int, Pass) -> String) -> String {
      name.padding(to: 20)
        + found.map { cell($0.0, $0.1) }.map { String(repeating: " ", count: max(1, 18 - $0.count)) + $0 }
        .joined()
    }
    func milliseconds(_ seconds: Double) -> String { "\((1000 * seconds).formatted(places: 2)) ms" }
    var lines = ["\(model), \(threads) threads, after \(Self.firstPosition) tokens"]
    lines.append(line("") { size, _ in "T(\(size))" })
    for name in PassTimeline.Part.allCases.map(\.rawValue) + ["between"] {
      lines.append(
        line(name) { _, pass in
          let seconds = pass.parts[name] ?? 0
          return "\(milliseconds(seconds)), \((100 * seconds / pass.total).formatted(places: 0)) %"
        })
    }
    lines.append(line("total") { milliseconds($1.total) })
    lines.append(line("of it waiting") { milliseconds($1.waiting) })
    lines.append(line("forks") { "\($1.forks)" })
    lines.append(line("greedy choice") { milliseconds($1.greedyChoice) })
    return lines.joined(separator: "\n") + "\n"
  }
}

/// Passes of fixed tokens at fixed places, so that every one does the same work.
private struct PassRun {
  private let decoder: Transformer
  private let states: HiddenStates
  private let cache: KeyValueCache
  private var logits: [Float] = []

  init(_ decoder: Transformer, capacity: Int) throws {
    self.decoder = decoder
    states = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: capacity)
    cache = try decoder.makeCache(capacity: capacity)
  }

  /// - Returns: Seconds.
  @discardableResult
  mutating func run(_ count: Int, at position: Int) throws -> Double {
    cache.crop(to: position)
    let size = decoder.configuration.vocabularySize
    let start = ContinuousClock.now
    try decoder.embed((0..<count).map { ($0 * 7919 % 40_000 + 20) % size }, into: states)
    let rows = (0..<count).map { BatchRow(cache: cache, position: position + $0) }
    try decoder.advance(states, rows: rows, layers: 0..<decoder.configuration.layerCount)
    // A prompt has no use for all of them.
    try decoder.logits(of: states, rows: max(0, count - 16)..<count, into: &logits)
    return (ContinuousClock.now - start).seconds
  }

  func greedyChoice(rows: Int) -> Double {
    let size = decoder.configuration.vocabularySize
    let start = ContinuousClock.now
    var sum = 0
    logits.withUnsafeBufferPointer { logits in
      for row in 0..<rows {
        sum += Logits.argmax(UnsafeBufferPointer(rebasing: logits[row * size..<(row + 1) * size]))
      }
    }
    // The sum is looked at so that the choices are made.
    return sum < 0 ? .infinity : (ContinuousClock.now - start).seconds
  }
}
