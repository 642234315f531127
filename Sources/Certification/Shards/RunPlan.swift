import Generation

/// How long a file of documents takes on several machines, from a sample of them that ran on one.
///
/// A machine loads the model and works through its shard. Documents are taken to cost as many seconds as they have
/// tokens to read: that holds as far as long and short documents of the file have outputs of like length.
public struct RunPlan: Sendable {
  /// A part of the sample that was run by itself.
  public struct Run: Sendable {
    /// Tokens that its documents have to read.
    public var tokens: Int
    /// Seconds that they took, their outputs included.
    public var seconds: Double

    /// A part that was measured.
    public init(tokens: Int, seconds: Double) {
      self.tokens = tokens
      self.seconds = seconds
    }
  }

  /// What some machines take.
  public struct Share: Encodable, Sendable, Equatable {
    /// How many.
    public var machines: Int
    /// Documents of the largest shard, by tokens.
    public var documents: Int
    /// Seconds until the last machine is done.
    public var seconds: Double
    /// Seconds of all machines together.
    public var machineSeconds: Double
  }

  /// Documents in all.
  public let documents: Int
  /// Tokens that they have to read.
  public let tokens: Int
  /// Seconds that a token takes.
  public let secondsPerToken: Double
  /// The standard error of that, by how the parts of the sample differ.
  public let secondsPerTokenError: Double
  /// Seconds to load the model.
  public let loadSeconds: Double
  private let work: [(id: DocumentIdentifier, tokens: Int)]

  /// Plans from a sample.
  ///
  /// - Parameters:
  ///   - work: The documents, with the tokens that each has to read.
  ///   - runs: Parts of the sample, at least two, with tokens in each.
  ///   - loadSeconds: Of the model, once a machine.
  /// - Throws: ``CertificationError`` for no documents, and for fewer parts.
  public init(work: [(id: DocumentIdentifier, tokens: Int)], runs: [Run], loadSeconds: Double)
    throws(CertificationError)
  {
    guard !work.isEmpty else { throw CertificationError(.documents, "there are no documents to plan for") }
    guard runs.count >= 2, runs.allSatisfy({ $0.tokens > 0 && $0.seconds >= 0 }) else {
      throw CertificationError(
        .documents, "a plan needs a sample in at least two parts, each with tokens to read")
    }
    self.work = work
    self.loadSeconds = loadSeconds
    documents = work.count
    tokens = work.reduce(0) { $0 + $1.tokens }
    // A ratio of sums, and its usual error from what is left of each part (Cochran, Sampling Techniques, 6.2).
    let count = Double(runs.count)
    let all = Double(runs.reduce(0) { $0 + $1.tokens })
    let rate = runs.reduce(0) { $0 + $1.seconds } / all
    let left = runs.map { $0.seconds - rate * Double($0.tokens) }
    let variance = left.reduce(0) { $0 + $1 * $1 } / (count - 1)
    secondsPerToken = rate
    secondsPerTokenError = (variance / count).squareRoot() / (all / count)
  }

  /// Parts of a sample, by whose differences the error of the estimate is known.
  public static let parts = 4

  /// Runs a sample of documents, evenly spaced, and plans from it.
  ///
  /// - Parameters:
  ///   - records: All documents, at least ``parts``.
  ///   - model: What reads them.
  ///   - sample: How many of them to run, at least ``parts``.
  ///   - loadSeconds: What loading the model takes, once a machine.
  ///   - progress: Told how many documents of the sample are done.
  ///   - decode: Runs some documents, and says whether it came to their end.
  /// - Returns: `nil` where it did not.
  /// - Throws: ``CertificationError`` for fewer documents, and what `decode` throws.
  public static func measured(
    _ records: [DocumentRecord], model: LanguageModel, sample: Int, loadSeconds: Double,
    progress: (Int) -> Void = { _ in }, decode: ([DocumentRecord]) throws -> Bool
  ) throws -> RunPlan? {
    let count = min(sample, records.count)
    guard count >= parts else {
      throw CertificationError(
        .documents, "a plan takes at least \(parts) documents, and a sample of as many; found \(count)")
    }
    let work = try records.map {
      (id: $0.id, tokens: try model.prompt(for: $0.item.task, document: $0.item.document).count)
    }
    let chosen = (0..<count).map { $0 * records.count / count }
    var runs: [Run] = []
    for part in 0..<parts {
      progress(count * part / parts)
      let places = chosen[count * part / parts..<count * (part + 1) / parts]
      let start = ContinuousClock.now
      guard try decode(places.map { records[$0] }) else { return nil }
      runs.append(
        Run(tokens: places.reduce(0) { $0 + work[$1].tokens }, seconds: (ContinuousClock.now - start).seconds)
      )
    }
    return try RunPlan(work: work, runs: runs, loadSeconds: loadSeconds)
  }

  /// What `machines` take, each with its shard.
  ///
  /// - Throws: ``CertificationError`` for a number that is no number of shards.
  /// - Complexity: O(documents) digests
  public func share(of machines: Int) throws(CertificationError) -> Share {
    _ = try Shard(index: 1, count: machines)
    var tokens = [Int](repeating: 0, count: machines)
    var documents = tokens
    for one in work {
      let place = Shard.place(of: one.id, among: machines)
      tokens[place] += one.tokens
      documents[place] += 1
    }
    let largest = tokens.indices.max { tokens[$0] < tokens[$1] } ?? 0
    return Share(
      machines: machines, documents: documents[largest],
      seconds: loadSeconds + secondsPerToken * Double(tokens[largest]),
      machineSeconds: loadSeconds * Double(machines) + secondsPerToken * Double(self.tokens))
  }
}
