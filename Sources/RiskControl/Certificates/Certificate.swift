/// A calibration written down: what was chosen, from what, how, and what that guarantees.
///
/// A certificate can be recomputed to the last digit from the table it names. Reading refuses a file whose contents do
/// not fit its digest. The digest has no key: it tells accidents, not forgeries, which a ``Signature`` does. The JSON
/// keys are stable, and absent values are written as null.
public struct Certificate: Sendable, Equatable {
  /// What the losses are, in words; they are not checked against anything.
  public struct Subject: Sendable, Equatable {
    /// For example "performance gap" or "consistency".
    public var risk: String
    /// For example "1 - ROUGE-L".
    public var metric: String
    /// SHA-256 of the model's file, or nil.
    public var modelDigest: String?
    /// SHA-256 of the exit policy's file or of ``policy``, or nil.
    public var policyDigest: String?
    /// The exit policy but for its threshold, as whoever made the losses describes it, or nil.
    public var policy: JSONValue?

    /// A description of the losses and what made them.
    public init(
      risk: String = "performance gap", metric: String = "loss", modelDigest: String? = nil,
      policyDigest: String? = nil, policy: JSONValue? = nil
    ) {
      self.risk = risk
      self.metric = metric
      self.modelDigest = modelDigest
      self.policyDigest = policyDigest
      self.policy = policy
    }
  }

  /// Another risk that holds at the same threshold.
  public struct FurtherRisk: Sendable, Equatable, Codable {
    /// What its losses are, or nil where the table alone is known.
    public var metric: String?
    /// ε of this risk.
    public let epsilon: Double
    /// B of this risk.
    public let lossBound: Double
    /// As for the certificate's own risk.
    public let upperBound: Double?
    /// As for the certificate's own risk.
    public let empiricalRisk: Double?
    /// SHA-256 of this risk's table.
    public let dataDigest: String

    enum CodingKeys: String, CodingKey {
      case epsilon, metric
      case lossBound = "loss_bound"
      case upperBound = "upper_bound"
      case empiricalRisk = "empirical_risk"
      case dataDigest = "data_sha256"
    }
  }

  /// What came of a calibration.
  public enum Outcome: String, Sendable, Codable, CaseIterable {
    /// A threshold past the safest is certified.
    case certified
    /// Only the safest threshold, that of the full model, is certified.
    case onlySafest = "only_safest"
    /// No threshold is certified.
    case nothingCertified = "nothing_certified"
  }

  /// What came of the calibration.
  public let outcome: Outcome
  /// λ to decode with; nil where nothing is certified.
  public let threshold: Double?
  /// Row of the table; nil where nothing is certified.
  public let index: Int?
  /// See ``ThresholdChoice/upperBound``.
  public let upperBound: Double?
  /// See ``ThresholdChoice/empiricalRisk``.
  public let empiricalRisk: Double?
  /// See ``CalibrationResult/smallestCertifiableEpsilon``.
  public let smallestCertifiableEpsilon: Double
  /// Why no more was certified, or nil.
  public let reason: String?
  /// ε, δ, rule, bound, measure, scan and order. δ is the total, before it is divided among policies.
  public let settings: CalibrationSettings
  /// B.
  public let lossBound: Double
  /// Among how many policies δ was divided; 1 where there was no choice.
  public let policiesCompared: Int
  /// n.
  public let sampleCount: Int
  /// K.
  public let thresholdCount: Int
  /// Whether the first row was taken for the full model.
  public let startsAtFullModel: Bool
  /// Mean cost at the threshold; nil without costs.
  public let cost: Double?
  /// Mean cost at the safest threshold; nil without costs.
  public let safestCost: Double?
  /// The other risks that hold at this threshold.
  public let furtherRisks: [FurtherRisk]
  /// What the losses are.
  public let subject: Subject
  /// Share of the samples that the guard found unlike the documents it was made of; nil without a guard. These count
  /// with the full model's output.
  public var outsideShare: Double?
  /// The limit that a monitor of the deployed threshold compares audited losses with; nil where no loss is of texts. It
  /// is ε itself where the losses need no references. Otherwise it is an upper bound of the loss against the full
  /// model's own output.
  public var auditEpsilon: Double?
  /// SHA-256 of the table, see ``LossTable/digest()``.
  public let dataDigest: String
  /// SHA-256 of the weights and their bound, or nil.
  public let weightsDigest: String?
  /// Name and version of the program that wrote it.
  public let program: String
  /// Who vouches for all this, or nil; see ``signed(with:)``.
  public internal(set) var signature: Signature?

  /// Writes down one result.
  ///
  /// - Parameters:
  ///   - result: from ``Calibration/calibrate(_:weights:)`` on `table` under `settings`.
  ///   - table: the table it was made from.
  ///   - settings: with the total δ, where it was divided among `policiesCompared` policies.
  ///   - weights: the weights it was made with, or nil.
  ///   - policiesCompared: how many policies shared δ.
  ///   - further: the other risks calibrated together with this one.
  ///   - furtherMetrics: what the losses of those are, where that is known.
  ///   - subject: what the losses are.
  ///   - program: name and version of the program.
  public init(
    _ result: CalibrationResult, table: LossTable, settings: CalibrationSettings,
    weights: SampleWeights? = nil,
    policiesCompared: Int = 1, further: [(result: CalibrationResult, table: LossTable)] = [],
    furtherMetrics: [String?] = [], subject: Subject = Subject(), program: String
  ) {
    let choice = result.outcome.choice
    outcome = result.outcome.kind
    threshold = choice?.threshold
    index = choice?.index
    upperBound = choice?.upperBound
    empiricalRisk = choice?.empiricalRisk
    smallestCertifiableEpsilon = result.smallestCertifiableEpsilon
    var settings = settings
    settings.epsilon = result.epsilon
    reason = (result.heldBack ?? result.outcome.shortfall)?.sentence(settings: settings)
    self.settings = settings
    lossBound = table.lossBound
    self.policiesCompared = policiesCompared
    sampleCount = table.sampleCount
    thresholdCount = table.thresholds.count
    startsAtFullModel = table.startsAtFullModel
    cost = choice?.cost
    safestCost = choice?.safestCost
    furtherRisks = further.enumerated().map { index, other in
      FurtherRisk(
        metric: furtherMetrics.indices.contains(index) ? furtherMetrics[index] : nil,
        epsilon: other.result.epsilon, lossBound: other.table.lossBound,
        upperBound: other.result.outcome.choice?.upperBound,
        empiricalRisk: other.result.outcome.choice?.empiricalRisk, dataDigest: other.table.digest())
    }
    self.subject = subject
    dataDigest = table.digest()
    weightsDigest = weights?.digest()
    self.program = program
  }
}
