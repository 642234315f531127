import Crypto
import Foundation

/// A certified confidence threshold: answers at or above it have an expected loss of at most ε.
///
/// Reading refuses a file whose contents do not fit its digest, as with ``Certificate``. The JSON keys are stable.
public struct AnswerCertificate: Sendable, Equatable, Codable {
  /// `certified` or `nothing_certified`.
  public let outcome: String
  /// τ: answers of at least this confidence are given; nil where nothing is certified.
  public let threshold: Double?
  /// ε: the tolerated mean loss of the answers given.
  public let epsilon: Double
  /// δ: the probability with which the certificate may be wrong, in 0..<1.
  public let delta: Double
  /// The bound of the mean loss among the answers given.
  public let bound: RiskBound
  /// The upper bound on that loss at τ; nil without a threshold.
  public let upperBound: Double?
  /// The mean of that loss at τ over the test samples; nil without a threshold.
  public let observedRisk: Double?
  /// Share of all questions that are answered at τ; 0 without a threshold. A question that the model declined counts as
  /// not answered.
  public let answeredShare: Double
  /// Mean loss of every answer that the model gave.
  public let riskOfAll: Double
  /// Samples that the thresholds were tested on.
  public let sampleCount: Int
  /// Samples that chose the threshold at which the tests begin. They test nothing.
  public let designCount: Int
  /// Questions that the model declined, or whose documents the guard found outside.
  public let declinedCount: Int
  /// What the loss is.
  public let metric: String
  /// How the answers were made: model, template, regime, guard.
  public let policy: JSONValue
  /// SHA-256 of the confidences and losses, as decimal text in the order of the samples.
  public let dataDigest: String
  /// Name and version of the program that wrote it.
  public let program: String

  enum CodingKeys: String, CodingKey {
    case outcome, threshold, epsilon, delta, bound, metric, policy, program, guarantee
    case version = "answer_certificate_version"
    case upperBound = "upper_bound"
    case observedRisk = "observed_risk"
    case answeredShare = "answered_share"
    case riskOfAll = "risk_of_all"
    case sampleCount = "sample_count"
    case designCount = "design_count"
    case declinedCount = "declined_count"
    case dataDigest = "data_sha256"
    case digest = "certificate_sha256"
  }

  private static let formatVersion = 1

  /// Writes down a result of ``SelectiveCalibration``.
  ///
  /// - Parameters:
  ///   - result: What the calibration found.
  ///   - settings: ε, δ and the bound, fixed before.
  ///   - confidences: (n), those of the answers that the model gave.
  ///   - losses: (n), those of the same answers.
  ///   - declined: How many further questions there were, which have no answer.
  ///   - metric: What the loss is.
  ///   - policy: How the answers were made.
  ///   - program: What made the certificate, with its version.
  public init(
    _ result: SelectiveCalibration.Result, settings: CalibrationSettings, confidences: [Double],
    losses: [Double], declined: Int, metric: String, policy: JSONValue, program: String
  ) {
    outcome = result.threshold == nil ? "nothing_certified" : "certified"
    threshold = result.threshold
    epsilon = settings.epsilon
    delta = settings.delta
    bound = settings.bound
    upperBound = result.upperBound
    observedRisk = result.observedRisk
    let count = confidences.count
    answeredShare = result.answeredShare * Double(count) / Double(max(count + declined, 1))
    riskOfAll = result.riskOfAll
    sampleCount = result.testCount
    designCount = result.designCount
    declinedCount = declined
    self.metric = metric
    self.policy = policy
    self.program = program
    let text = zip(confidences, losses).map { "\($0) \($1)\n" }.joined()
    dataDigest = LossTable.hexadecimal(SHA256.hash(data: Data(text.utf8)))
  }

  /// What is guaranteed, in words.
  public var guarantee: String {
    guard let threshold else {
      return "Nothing is guaranteed: no confidence was found from which on answers could be certified."
    }
    return
      "With probability at least 1 - \(plain(delta)) over the draw of the \(sampleCount) calibration "
      + "samples, the expected loss (\(metric)) of an answer that is given, its confidence being at least "
      + "\(plain((threshold * 1e4).rounded() / 1e4)), "
      + "is at most \(plain(epsilon)), for new questions and documents from the same distribution. It says "
      + "nothing about any single answer."
  }

  /// Writes the certificate with its digest.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(Self.formatVersion, forKey: .version)
    try container.encode(outcome, forKey: .outcome)
    try container.encode(threshold, forKey: .threshold)
    try container.encode(epsilon, forKey: .epsilon)
    try container.encode(delta, forKey: .delta)
    try container.encode(bound, forKey: .bound)
    try container.encode(upperBound, forKey: .upperBound)
    try container.encode(observedRisk, forKey: .observedRisk)
    try container.encode(answeredShare, forKey: .answeredShare)
    try container.encode(riskOfAll, forKey: .riskOfAll)
    try container.encode(sampleCount, forKey: .sampleCount)
    try container.encode(designCount, forKey: .designCount)
    try container.encode(declinedCount, forKey: .declinedCount)
    try container.encode(metric, forKey: .metric)
    try container.encode(policy, forKey: .policy)
    try container.encode(dataDigest, forKey: .dataDigest)
    try container.encode(program, forKey: .program)
    try container.encode(guarantee, forKey: .guarantee)
    if CertificateJSON.isForDigest(encoder) { return }
    try container.encode(try digest(), forKey: .digest)
  }

  /// Reads a certificate, and refuses another version or one whose digest is not its own.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let version = try container.decode(Int.self, forKey: .version)
    guard version == Self.formatVersion else {
      throw DecodingError.dataCorruptedError(
        forKey: .version, in: container,
        debugDescription: "version \(version), expected \(Self.formatVersion)")
    }
    outcome = try container.decode(String.self, forKey: .outcome)
    threshold = try container.decode(Double?.self, forKey: .threshold)
    epsilon = try container.decode(Double.self, forKey: .epsilon)
    delta = try container.decode(Double.self, forKey: .delta)
    bound = try container.decode(RiskBound.self, forKey: .bound)
    upperBound = try container.decode(Double?.self, forKey: .upperBound)
    observedRisk = try container.decode(Double?.self, forKey: .observedRisk)
    answeredShare = try container.decode(Double.self, forKey: .answeredShare)
    riskOfAll = try container.decode(Double.self, forKey: .riskOfAll)
    sampleCount = try container.decode(Int.self, forKey: .sampleCount)
    designCount = try container.decode(Int.self, forKey: .designCount)
    declinedCount = try container.decode(Int.self, forKey: .declinedCount)
    metric = try container.decode(String.self, forKey: .metric)
    policy = try container.decode(JSONValue.self, forKey: .policy)
    dataDigest = try container.decode(String.self, forKey: .dataDigest)
    program = try container.decode(String.self, forKey: .program)
  }

  /// The SHA-256 of everything else that the certificate says.
  public func digest() throws -> String { try CertificateJSON.digest(of: self) }

  /// The JSON of a certificate file.
  public func jsonData() throws -> Data { try CertificateJSON.data(of: self) }

  /// Writes the file in one step.
  public func write(to path: String) throws { try CertificateJSON.write(self, to: path) }

  /// Reads a certificate of answers.
  ///
  /// - Returns: nil for a file of another kind.
  /// - Throws: ``RiskControlError`` for a file that cannot be read, and a certificate of answers that was edited.
  public static func read(path: String) throws(RiskControlError) -> AnswerCertificate? {
    let data = try ByteSource(path: path).readToEnd()
    guard case .object(let keys)? = try? JSONDecoder().decode(JSONValue.self, from: data),
      keys[CodingKeys.version.rawValue] != nil
    else { return nil }
    guard let found = try? JSONDecoder().decode(AnswerCertificate.self, from: data) else {
      throw .certificate("not a certificate of answers of version \(formatVersion)", in: path)
    }
    guard let again = try? JSONDecoder().decode(JSONValue.self, from: found.jsonData()),
      again == .object(keys)
    else { throw .certificate("the certificate was edited", in: path) }
    return found
  }
}
