import EarlyExit
import Generation
import RiskControl
import SpeculativeDecoding
import TextLosses
import Transformers

/// Decoding with early exits or drafts, and without at full depth, side by side.
public struct Evaluation {
  /// What was measured of one way of decoding.
  public struct Way: Encodable {
    /// 1 - loss against the references, on average; `nil` without references.
    public var quality: Double?
    /// Layers that a token after the first passed, on average: in 1...``Result/layers``.
    public var averageLayer = 0.0
    /// Bytes of weights read for a token after the first.
    public var bytesPerToken = 0.0
    /// Of decoding, for a token after the first.
    public var millisecondsPerToken = 0.0
    /// Documents a second, the prompts' passes included.
    public var samplesPerSecond = 0.0
    /// Tokens of all outputs together.
    public var tokens = 0
    /// Parts of `millisecondsPerToken`.
    public var breakdown = Breakdown()
    /// How drafts went, in sums over the documents.
    public var speculation: SpeculationStatistics?
  }

  /// Milliseconds a token after the first.
  public struct Breakdown: Encodable {
    /// Attention and feed-forward blocks.
    public var layers = 0.0
    /// The unembedding, fitted maps and shortlists, wherever they are run.
    public var heads = 0.0
    /// Projecting keys and values of skipped layers; completing them as a batch is part of `layers`.
    public var cache = 0.0
    /// Confidences, choosing the token, its text; a draft model's work.
    public var gatesAndSampling = 0.0
  }

  /// What an evaluation found, as `egress evaluate --format json` prints it.
  public struct Result: Encodable {
    /// What the model is called.
    public var model: String
    /// What outputs are measured by, such as `rouge-l`.
    public var metric: String
    /// What losses are relative to; see ``QualityRisk``.
    public var risk: String
    /// How many documents were decoded.
    public var documents: Int
    /// Layers of the model.
    public var layers: Int
    /// The threshold that was used: λ of early exits, the rollback threshold of drafts, or the layer after which
    /// prompts stopped where nothing else was.
    public var threshold: Double
    /// ε of the certificate.
    public var epsilon: Double?
    /// Mean loss of the output with early exits relative to the full model's, and its standard error.
    public var testRisk: Double
    /// The standard error of ``testRisk`` over documents.
    public var testRiskError: Double
    /// How far the distributions that tokens are chosen from are from the full model's, averaged over the tokens of its
    /// own output and over documents; `nil` where texts are compared only.
    public var brier: Double?
    /// The Hellinger distance in the place of ``brier``'s squared difference, in 0...1.
    public var hellinger: Double?
    /// Whether the test risk is at most ε.
    public var isWithinEpsilon: Bool?
    /// Share of the documents that the certificate's guard finds outside, and so at full depth, and the mean loss of
    /// the others; `nil` without a guard.
    public var outsideShare: Double?
    /// The mean loss of the documents that the guard finds inside; `nil` without a guard.
    public var insideRisk: Double?
    /// Documents whose output is the full model's.
    public var identicalOutputs: Int
    /// Decoding at full depth.
    public var full: Way
    /// Decoding with early exits or drafts.
    public var exits: Way
    /// Time a token with early exits takes, in times of one at full depth; below 1 is a gain.
    public var timeRatio: Double
    /// The same of whole documents, the prompts' passes included.
    public var documentTimeRatio: Double
    /// The same of the prompts' passes alone.
    public var promptTimeRatio: Double
    /// The layer after which prompts stopped; `nil` where they passed all.
    public var promptDepth: Int?
  }

  /// The model whose time is measured.
  public let model: LanguageModel
  /// Who drafts for ``model``, where drafts are compared.
  public var speculation: SpeculationStrategy?
  /// With the certificate's guard and tripwire, and how deep prompts are read.
  public var protection = GenerationOptions()
  private let decoder: TimedDecoder
  private let strategy: ExitStrategy?
  /// Of texts, printed beside ``distance`` where that is what is asked for.
  private let loss: SequenceLoss
  private let distance: DistributionDistance?
  private let risk: QualityRisk
  private let maxTokens: Int?
  private let shouldStop: () -> Bool
  /// What the documents gave so far, in their order.
  package private(set) var documents: [EvaluatedDocument] = []

  /// Prepares to decode both ways.
  ///
  /// - Parameters:
  ///   - model: What decodes.
  ///   - strategy: Where tokens may leave early; `nil` for full depth.
  ///   - metric: What outputs are measured by.
  ///   - risk: What losses are relative to.
  ///   - maxTokens: The most tokens of an output; `nil` for what is usual for its task.
  ///   - shouldStop: Asked before each token.
  public init(
    _ model: LanguageModel, strategy: ExitStrategy?, metric: QualityMetric, risk: QualityRisk,
    maxTokens: Int? = nil, shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) {
    decoder = TimedDecoder(model.decoder)
    self.model = model.decoding(with: decoder)
    self.shouldStop = shouldStop
    self.strategy = strategy
    if case .text(let loss) = metric { self.loss = loss } else { loss = .rouge(Rouge(.rougeL)) }
    distance = metric.distance
    self.risk = risk
    self.maxTokens = maxTokens
  }

  private func options(_ record: DocumentRecord) throws -> GenerationOptions {
    try model.options(for: record, maxTokens: maxTokens)
  }

  /// Checks that a document fits.
  ///
  /// - Throws: ``CertificationError`` for a document that the model cannot hold.
  public func check(_ record: DocumentRecord) throws {
    _ = try model.wholePrompt(for: record, options: options(record))
  }

  /// Decodes a document both ways.
  ///
  /// - Returns: `false` after an interruption; the document then counts for nothing.
  public mutating func add(_ record: DocumentRecord, exitsFirst: Bool) throws -> Bool {
    var ways = [EvaluatedDocument.Way(), EvaluatedDocument.Way()]
    var texts = ["", ""]
    var isInside: Bool?
    for way in exitsFirst ? [1, 0] : [0, 1] {
      guard let (text, found) = try run(record, isPlain: way == 0, into: &ways[way]) else {
        return false
      }
      texts[way] = text
      isInside = found?.isInside ?? isInside
    }
    if let references = record.references, !references.isEmpty {
      for way in [0, 1] {
        ways[way].quality = 1 - loss.loss(texts[way], references: references, source: record.item.document)
      }
    }
    var distances: [DistributionDistance: Double] = [:]
    if distance != nil {
      guard let found = try measureDistances(record) else { return false }
      distances = found
    }
    documents.append(
      EvaluatedDocument(
        full: ways[0], exits: ways[1],
        loss: distance.flatMap { distances[$0] }
          ?? risk.loss(
            texts[1], full: texts[0], references: record.references ?? [], source: record.item.document,
            metric: loss),
        isIdentical: texts[0].utf8.elementsEqual(texts[1].utf8), isInside: isInside,
        brier: distances[.brier], hellinger: distances[.hellinger]))
    return true
  }

  /// Decodes documents both ways, by turns: what slows the machine down then slows down both.
  ///
  /// - Parameters:
  ///   - records: The documents. All are checked before the first is decoded.
  ///   - before: How many of the whole there were before them.
  ///   - progress: Told how many of the whole are done.
  /// - Returns: `false` after an interruption.
  /// - Throws: ``CertificationError`` for a document that the model cannot hold.
  public mutating func add(
    _ records: some Collection<DocumentRecord>, after before: Int = 0, progress: (Int) -> Void = { _ in }
  ) throws -> Bool {
    try add(records, after: before, progress: progress) { _, _ in }
  }

  /// The same.
  ///
  /// - Parameter note: Told what each document gave.
  package mutating func add(
    _ records: some Collection<DocumentRecord>, after before: Int, progress: (Int) -> Void,
    note: (DocumentRecord, EvaluatedDocument) throws -> Void
  ) throws -> Bool {
    for record in records { try check(record) }
    for (index, record) in zip(before..., records) {
      guard try add(record, exitsFirst: index % 2 == 1), let found = documents.last else { return false }
      try note(record, found)
      progress(index + 1)
    }
    return true
  }

  /// Distances along the full model's own output, which is decoded once more for each.
  ///
  /// - Returns: `nil` after an interruption.
  private func measureDistances(_ record: DocumentRecord) throws -> [DistributionDistance: Double]? {
    var distances: [DistributionDistance: Double] = [:]
    var options = try options(record)
    options.applicability = protection.applicability
    let prompt = try model.wholePrompt(for: record, options: options)
    for distance in DistributionDistance.allCases {
      var value = 0.0
      if let strategy, let policy = strategy.policy as? ThresholdPolicy, policy.threshold < 1 {
        let sweep = try ExitSweep(
          model: model, strategy: strategy, policy: policy, distance: distance,
          grid: [policy.threshold])
        guard
          let pieces = try sweep.run(
            prompt, options: options, shouldStop: shouldStop)
        else { return nil }
        value = pieces.last?.distance ?? 0
      }
      distances[distance] = value
    }
    _ = decoder.take()
    return distances
  }

  private mutating func run(
    _ record: DocumentRecord, isPlain: Bool, into sums: inout EvaluatedDocument.Way
  ) throws -> (text: String, applicability: Applicability?)? {
    var options = try options(record)
    if !isPlain {
      (options.applicability, options.tripwire) = (protection.applicability, protection.tripwire)
      options.promptDepth = protection.promptDepth
    }
    let prompt = try model.wholePrompt(for: record, options: options)
    let drafting = try (isPlain ? nil : speculation)?.makeSession(
      prompt: prompt, options: options, shouldStop: shouldStop)
    let session: any GenerationSession =
      try drafting
      ?? model.makeSession(
        prompt: prompt, options: options, exits: isPlain ? nil : strategy,
        shouldStop: shouldStop)
    let plain = Double(
      decoder.bytesPerLayer * decoder.configuration.layerCount + decoder.bytesOfUnembedding)
    var isFirst = true
    while let step = try session.next() {
      // What the prompt's pass took is no part of decoding.
      if isFirst {
        _ = decoder.take()
      } else if drafting == nil {
        sums.bytes += step.depth.map { Double($0.bytesRead) } ?? plain
      }
      isFirst = false
    }
    guard session.stopReason != .cancelled else { return nil }
    if let drafting {
      sums.bytes += Double(drafting.statistics.bytesRead)
      sums.speculation = drafting.statistics
    }
    sums.times = decoder.take()
    (sums.prefill, sums.decode) = (session.timings.prefill, session.timings.decode)
    let generation = session.generation
    sums.layers = generation.layers.reduce(0, +)
    sums.tokens = generation.tokenIDs.count
    return (generation.text.trimmingWhitespace(), generation.applicability)
  }

  /// What came out, or `nil` when there is no document.
  public func result(certificate: Certificate?, threshold: Double?) -> Result? {
    Result(facts(certificate: certificate, threshold: threshold), documents: documents)
  }

  /// What the documents have in common.
  package func facts(certificate: Certificate?, threshold: Double?) -> EvaluationFacts {
    EvaluationFacts(
      model: model.name, metric: distance?.rawValue ?? loss.name, risk: risk.name,
      layers: decoder.configuration.layerCount,
      threshold: usedThreshold ?? certificate?.threshold ?? threshold ?? 1,
      epsilon: certificate?.settings.epsilon, promptDepth: protection.promptDepth)
  }

  /// The rollback threshold, 0 for exact drafting; without both drafts and exits the prompt's layer, or 1 for full
  /// depth; `nil` for the threshold of the exits.
  private var usedThreshold: Double? {
    switch speculation?.rule {
    case .rollback(let threshold): threshold
    case .exact: 0
    case nil: strategy == nil ? protection.promptDepth.map(Double.init) ?? 1 : nil
    }
  }
}
