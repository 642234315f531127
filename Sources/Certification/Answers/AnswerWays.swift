import FileFormats
import Foundation
import Generation
import RiskControl

/// The ways in which the answers of a calibration come about, as its certificate names them.
///
/// It is all that certifying takes beside the answers: no model is needed.
public struct AnswerWays: Codable, Sendable, Equatable {
  /// What an answer's loss is.
  public let metric: String
  /// What each way is called, fastest first.
  public let names: [String]
  /// What a certificate says of each: see ``CertifiedAnswers/Policy``.
  public let policies: [JSONValue]

  /// Which documents are answered, whatever the way; `nil` for any.
  public var applicability: ApplicabilityGuard.Reference? {
    guard let policy = policies.first else { return nil }
    return try? JSONDecoder().decode(CertifiedAnswers.Policy.self, from: JSONEncoder().encode(policy))
      .applicability
  }

  /// Certifies the confidence from which on answers are given; of several ways, of the fastest that answers about as
  /// many questions.
  ///
  /// - Parameters:
  ///   - lines: All questions' answers, by way.
  ///   - settings: ε, δ and the bound, fixed before anything is measured.
  ///   - program: What makes the certificate.
  /// - Throws: ``CertificationError`` for answers of another number of ways.
  public func certify(
    _ lines: [[AnswerLine]], settings: CalibrationSettings, program: String = EgressVersion.program
  ) throws -> AnswerCalibrator.Certified {
    guard lines.count == policies.count, !lines.isEmpty else {
      throw CertificationError(
        .runs, "there are answers of \(lines.count) ways of decoding, and \(policies.count) to certify")
    }
    let calibration = try SelectiveCalibration(settings)
    let (chosen, result) =
      lines.count == 1
      ? (0, try calibration.calibrate(lines[0]))
      : try calibration.calibrate(policies: lines.map { $0.map(\.sample) })
    let given = lines[chosen].filter(\.isCandidate)
    let certificate = AnswerCertificate(
      result, settings: settings, confidences: given.map(\.confidence), losses: given.map(\.loss),
      declined: lines[chosen].count - given.count, metric: metric, policy: policies[chosen], program: program)
    return AnswerCalibrator.Certified(
      certificate: certificate, result: result, chosen: chosen, lines: lines[chosen])
  }
}

/// A line of a shard of answers: a question's answers, one a way.
package struct AnswersLine: Codable {
  package var id: DocumentIdentifier
  package var answers: [AnswerLine]

  package init(id: DocumentIdentifier, answers: [AnswerLine]) {
    self.id = id
    self.answers = answers
  }
}
