import FileFormats
import RiskControl

extension Calibrator {
  /// One of the policies to choose among.
  public struct Candidate {
    /// What it is called.
    public var name: String
    /// What the names of its files begin with.
    public var stem: String
    /// What decodes with it.
    public var calibrator: Calibrator

    /// Names a policy.
    public init(name: String, stem: String, calibrator: Calibrator) {
      self.name = name
      self.stem = stem
      self.calibrator = calibrator
    }
  }

  /// A loss that has to hold together with the first, at the same threshold.
  public struct FurtherLoss: Sendable {
    /// What outputs are measured by.
    public var metric: QualityMetric
    /// What losses are relative to.
    public var risk: QualityRisk
    /// What their mean may be at most.
    public var epsilon: Double

    /// Puts a loss together.
    public init(metric: QualityMetric, risk: QualityRisk, epsilon: Double) {
      self.metric = metric
      self.risk = risk
      self.epsilon = epsilon
    }
  }

  /// What is certified besides a single ε.
  public struct Demands {
    /// What the mean of the first loss may be at most, each by a certificate of its own.
    public var epsilons: [Double]
    /// Losses of the same outputs that have to hold together with the first.
    public var further: [FurtherLoss] = []
    /// Tables of other losses that have to.
    public var tables: [Calibration.FurtherRisk] = []
    /// Density ratios of the documents, where others are expected.
    public var weights: SampleWeights?

    /// Puts demands together.
    public init(
      epsilons: [Double], further: [FurtherLoss] = [], tables: [Calibration.FurtherRisk] = [],
      weights: SampleWeights? = nil
    ) {
      self.epsilons = epsilons
      self.further = further
      self.tables = tables
      self.weights = weights
    }
  }

  /// What came out of the outputs of all candidates.
  public struct Certified {
    /// One for each ε.
    public var certificates: [Certificate]
    /// Which candidate they are of.
    public var chosen: Int
    /// How each candidate came out, where there are several.
    public var choice: Calibration.PolicyResult?
  }

  /// Makes the tables of losses and certifies a threshold on them: that of the cheapest candidate. No model is run.
  ///
  /// - Parameters:
  ///   - candidates: At least one, on the same documents.
  ///   - outputs: Of each candidate, those of all documents: see ``complete(_:shouldStop:progress:)``.
  ///   - settings: δ and the rule, and ε where further losses go with the first.
  ///   - demands: What is certified. Several candidates take one ε alone.
  ///   - program: What makes the certificates.
  /// - Throws: ``CertificationError`` for losses that say nothing and files that cannot be written.
  public static func certify(
    _ candidates: [Candidate], outputs: [[RunLine]], settings: CalibrationSettings, demands: Demands,
    program: String = EgressVersion.program
  ) throws -> Certified {
    guard let first = candidates.first, let lines = outputs.first else {
      throw CertificationError(.runs, "there is nothing to calibrate")
    }
    try first.calibrator.checkVacuity(lines)
    for one in demands.further {
      try first.calibrator.checkVacuity(lines, metric: one.metric, risk: one.risk)
    }
    let subjects = try candidates.map { try $0.calibrator.subject() }
    let tables = try zip(candidates, outputs).map { candidate, lines in
      try candidate.calibrator.losses(
        lines, path: candidate.stem + ".losses.jsonl", isAlone: demands.further.isEmpty)
    }
    let calibration = try Calibration(settings)
    var certified = Certified(certificates: [], chosen: 0)
    if candidates.count == 1 {
      let further = try demands.further.map { one in
        Calibration.FurtherRisk(
          table: try first.calibrator.losses(
            lines, path: "\(first.stem).\(one.metric.name).losses.jsonl", metric: one.metric, risk: one.risk,
            isAlone: false),
          epsilon: one.epsilon, metric: "\(one.metric.name), \(one.risk.name)")
      }
      certified.certificates = try calibration.certificates(
        of: tables[0], epsilons: demands.epsilons, weights: demands.weights,
        further: demands.tables + further,
        subject: subjects[0], program: program)
    } else {
      let policies = zip(candidates, tables).map { Calibration.Policy(name: $0.name, table: $1) }
      let (certificate, choice) = try calibration.certificate(
        among: policies, subjects: subjects, program: program)
      certified = Certified(certificates: [certificate], chosen: choice.chosen ?? 0, choice: choice)
    }
    let (calibrator, chosen) = (candidates[certified.chosen].calibrator, outputs[certified.chosen])
    for index in certified.certificates.indices {
      try calibrator.complete(&certified.certificates[index], by: chosen)
    }
    return certified
  }

  /// Adds what the outputs say beside their losses: the ε of audits, and the share of documents that the guard finds
  /// unlike those it was made of.
  func complete(_ certificate: inout Certificate, by lines: [RunLine]) throws {
    certificate.auditEpsilon = try auditEpsilon(certificate, lines: lines)
    guard sweep.settings.policy.applicability != nil else { return }
    let outside = lines.reduce(0) { $0 + ($1.inside == false ? 1 : 0) }
    certificate.outsideShare = Double(outside) / Double(max(lines.count, 1))
  }

  /// What a monitor of the certificate holds the risk against: ε where losses need no references, and otherwise the
  /// upper bound, at δ, of the loss against the full model's own output at the certified threshold.
  private func auditEpsilon(_ certificate: Certificate, lines: [RunLine]) throws -> Double? {
    guard metric.distance == nil, let threshold = certificate.threshold else { return nil }
    guard risk == .gap, metric.readsReferences else { return certificate.settings.epsilon }
    let losses = zip(lines, records).map { line, record in
      line.losses(metric, risk: .consistency, references: [], source: record.item.document)[
        line.piece(at: threshold)]
    }
    let bound = try RiskBound.wsr.upperBound(of: losses, delta: certificate.settings.delta)
    return min(max(bound, Self.leastAuditEpsilon), 1 - Self.leastAuditEpsilon)
  }

  /// Audits test a mean against an ε that is neither 0 nor 1.
  private static let leastAuditEpsilon = 0.001
}
