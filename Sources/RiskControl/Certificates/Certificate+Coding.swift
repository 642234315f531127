import Foundation

extension Certificate: Codable {
  enum CodingKeys: String, CodingKey {
    case version = "certificate_version"
    case outcome, threshold, index
    case upperBound = "upper_bound"
    case empiricalRisk = "empirical_risk"
    case smallestCertifiableEpsilon = "smallest_certifiable_epsilon"
    case reason
    case epsilon, delta, rule, bound, scan
    case measure = "risk_measure"
    case order, seed
    case lossBound = "loss_bound"
    case negativeLosses = "negative_losses"
    case policiesCompared = "policies_compared"
    case sampleCount = "sample_count"
    case thresholdCount = "threshold_count"
    case startsAtFullModel = "starts_at_full_model"
    case cost
    case safestCost = "safest_cost"
    case pays
    case furtherRisks = "further_risks"
    case outsideShare = "outside_share"
    case auditEpsilon = "audit_epsilon"
    case risk, metric
    case modelDigest = "model_sha256"
    case policyDigest = "policy_sha256"
    case policy
    case dataDigest = "data_sha256"
    case weightsDigest = "weights_sha256"
    case program, guarantee, limits
    case digest = "certificate_sha256"
    case signature
  }

  static let formatVersion = 4

  /// Writes every key, absent values as null, the certificate's own SHA-256, and the signature, which is of that.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(Self.formatVersion, forKey: .version)
    try container.encode(outcome, forKey: .outcome)
    try container.encode(threshold, forKey: .threshold)
    try container.encode(index, forKey: .index)
    try container.encode(upperBound, forKey: .upperBound)
    try container.encode(empiricalRisk, forKey: .empiricalRisk)
    try container.encode(smallestCertifiableEpsilon, forKey: .smallestCertifiableEpsilon)
    try container.encode(reason, forKey: .reason)
    try container.encode(settings.epsilon, forKey: .epsilon)
    let readsBound = settings.rule.controlsWithHighProbability
    try container.encode(settings.delta, forKey: .delta)
    try container.encode(settings.rule, forKey: .rule)
    try container.encode(readsBound ? settings.bound : nil, forKey: .bound)
    try container.encode(settings.scan, forKey: .scan)
    try container.encode(settings.measure.name, forKey: .measure)
    switch settings.order {
    case .given:
      try container.encode("given", forKey: .order)
      try container.encodeNil(forKey: .seed)
    case .averaged:
      try container.encode("averaged", forKey: .order)
      try container.encodeNil(forKey: .seed)
    case .shuffled(let seed):
      try container.encode("shuffled", forKey: .order)
      try container.encode(seed, forKey: .seed)
    }
    try container.encode(lossBound, forKey: .lossBound)
    try container.encode(
      readsBound && !settings.bound.takesSignedLosses ? "counted as 0" : "counted as they are",
      forKey: .negativeLosses)
    try container.encode(policiesCompared, forKey: .policiesCompared)
    try container.encode(sampleCount, forKey: .sampleCount)
    try container.encode(thresholdCount, forKey: .thresholdCount)
    try container.encode(startsAtFullModel, forKey: .startsAtFullModel)
    try container.encode(cost, forKey: .cost)
    try container.encode(safestCost, forKey: .safestCost)
    try container.encode(pays, forKey: .pays)
    try container.encode(furtherRisks, forKey: .furtherRisks)
    try container.encode(outsideShare, forKey: .outsideShare)
    try container.encode(auditEpsilon, forKey: .auditEpsilon)
    try container.encode(subject.risk, forKey: .risk)
    try container.encode(subject.metric, forKey: .metric)
    try container.encode(subject.modelDigest, forKey: .modelDigest)
    try container.encode(subject.policyDigest, forKey: .policyDigest)
    try container.encode(subject.policy, forKey: .policy)
    try container.encode(dataDigest, forKey: .dataDigest)
    try container.encode(weightsDigest, forKey: .weightsDigest)
    try container.encode(program, forKey: .program)
    try container.encode(guarantee, forKey: .guarantee)
    try container.encode(limits, forKey: .limits)
    if CertificateJSON.isForDigest(encoder) { return }
    try container.encode(try digest(), forKey: .digest)
    try container.encode(signature, forKey: .signature)
  }

  /// Reads the fields; ``read(_:name:)`` is what also refuses an edited certificate.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func broken(_ key: CodingKeys, _ text: String) -> DecodingError {
      .dataCorruptedError(forKey: key, in: container, debugDescription: text)
    }
    let version = try container.decode(Int.self, forKey: .version)
    guard version == Self.formatVersion else {
      throw broken(.version, "version \(version), expected \(Self.formatVersion)")
    }
    outcome = try container.decode(Outcome.self, forKey: .outcome)
    threshold = try container.decode(Double?.self, forKey: .threshold)
    index = try container.decode(Int?.self, forKey: .index)
    upperBound = try container.decode(Double?.self, forKey: .upperBound)
    empiricalRisk = try container.decode(Double?.self, forKey: .empiricalRisk)
    smallestCertifiableEpsilon = try container.decode(Double.self, forKey: .smallestCertifiableEpsilon)
    reason = try container.decode(String?.self, forKey: .reason)
    let measureName = try container.decode(String.self, forKey: .measure)
    guard let measure = RiskMeasure(name: measureName) else {
      throw broken(.measure, "unknown risk measure \(measureName)")
    }
    let order: SampleOrder
    switch try container.decode(String.self, forKey: .order) {
    case "given": order = .given
    case "averaged": order = .averaged
    case "shuffled": order = .shuffled(seed: try container.decode(UInt64.self, forKey: .seed))
    case let other: throw broken(.order, "unknown order \(other)")
    }
    settings = CalibrationSettings(
      epsilon: try container.decode(Double.self, forKey: .epsilon),
      delta: try container.decode(Double.self, forKey: .delta),
      rule: try container.decode(ThresholdRule.self, forKey: .rule),
      bound: try container.decode(RiskBound?.self, forKey: .bound) ?? .wsr, measure: measure,
      scan: try container.decode(ThresholdScan.self, forKey: .scan), order: order)
    lossBound = try container.decode(Double.self, forKey: .lossBound)
    policiesCompared = try container.decode(Int.self, forKey: .policiesCompared)
    sampleCount = try container.decode(Int.self, forKey: .sampleCount)
    thresholdCount = try container.decode(Int.self, forKey: .thresholdCount)
    startsAtFullModel = try container.decode(Bool.self, forKey: .startsAtFullModel)
    cost = try container.decode(Double?.self, forKey: .cost)
    safestCost = try container.decode(Double?.self, forKey: .safestCost)
    furtherRisks = try container.decode([FurtherRisk].self, forKey: .furtherRisks)
    outsideShare = try container.decode(Double?.self, forKey: .outsideShare)
    auditEpsilon = try container.decode(Double?.self, forKey: .auditEpsilon)
    subject = Subject(
      risk: try container.decode(String.self, forKey: .risk),
      metric: try container.decode(String.self, forKey: .metric),
      modelDigest: try container.decode(String?.self, forKey: .modelDigest),
      policyDigest: try container.decode(String?.self, forKey: .policyDigest),
      policy: try container.decode(JSONValue?.self, forKey: .policy))
    dataDigest = try container.decode(String.self, forKey: .dataDigest)
    weightsDigest = try container.decode(String?.self, forKey: .weightsDigest)
    program = try container.decode(String.self, forKey: .program)
    signature = try container.decode(Signature?.self, forKey: .signature)
  }

  /// The SHA-256 of everything the certificate says but this and its signature: of its JSON with sorted keys and no
  /// white space.
  public func digest() throws -> String { try CertificateJSON.digest(of: self) }
}
