import FileFormats
import Foundation
import Generation
import RiskControl
import TextLosses

/// From questions to a certificate of answers: the model answers all of them, and the confidence is certified from
/// which on answers are given.
public struct AnswerCalibrator {
  /// A way of decoding that answers may come about in.
  public struct Way {
    /// What it is called.
    public var name: String
    /// `nil` for full depth.
    public var strategy: (any DecodingStrategy)?

    /// Names a way.
    public init(name: String, strategy: (any DecodingStrategy)?) {
      self.name = name
      self.strategy = strategy
    }
  }

  /// What came out.
  public struct Certified {
    /// The certificate.
    public var certificate: AnswerCertificate
    /// What its calibration found.
    public var result: SelectiveCalibration.Result
    /// The way that was chosen.
    public var chosen: Int
    /// All questions' answers, that way.
    public var lines: [AnswerLine]
  }

  /// What answers.
  public let subject: DecodingSubject
  /// What an answer's loss is.
  public let loss: SequenceLoss
  /// The questions with their documents and references.
  public let records: [DocumentRecord]
  /// Which documents are answered; `nil` for any.
  public let applicability: PolicyGuard?
  private let maxTokens: Int?

  /// - Parameters:
  ///   - subject: What answers.
  ///   - records: Questions with their documents and references: see ``check(_:loss:name:)``.
  ///   - loss: What an answer's loss is.
  ///   - applicability: Which documents are answered; `nil` for any.
  ///   - maxTokens: The most tokens of an answer; `nil` for the usual number.
  public init(
    _ subject: DecodingSubject, records: [DocumentRecord], loss: SequenceLoss,
    applicability: PolicyGuard? = nil, maxTokens: Int? = nil
  ) {
    self.subject = subject
    self.records = records
    self.loss = loss
    self.applicability = applicability
    self.maxTokens = maxTokens
  }

  /// Checks that documents have questions, and references that say something.
  ///
  /// - Throws: ``CertificationError`` naming the file and the document.
  public static func check(_ records: [DocumentRecord], loss: SequenceLoss, name: String) throws {
    for record in records {
      guard case .answer = record.item.task else {
        throw CertificationError(
          .documents, "\(name): document \(record.id) has no question, which --risk selective needs")
      }
      guard let references = record.references, !references.isEmpty else {
        throw CertificationError(
          .documents, "\(name): document \(record.id) has no references (an array of texts)")
      }
    }
    if let reason = loss.vacuity(references: records.map { $0.references ?? [] }) {
      throw CertificationError(.documents, "\(name): \(reason)")
    }
  }

  /// Answers all questions.
  ///
  /// - Parameters:
  ///   - strategy: How answers come about; `nil` for full depth.
  ///   - hasCost: Whether to say how many layers tokens passed.
  ///   - shouldStop: Asked before each token.
  ///   - progress: Told how many questions are answered.
  /// - Returns: `nil` where it was told to stop.
  public func answers(
    by strategy: (any DecodingStrategy)?, hasCost: Bool,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }, progress: (Int) -> Void = { _ in }
  ) throws -> [AnswerLine]? {
    let batch = BatchDecoder(model: subject.model, shouldStop: shouldStop)
    for record in records {
      var options = try subject.model.options(for: record, maxTokens: maxTokens)
      options.recordsProbabilities = true
      options.applicability = applicability?.found
      batch.submit(
        prompt: try subject.model.wholePrompt(for: record, options: options), options: options,
        strategy: strategy ?? FullDepth())
    }
    var done: [BatchDecoder.Ticket: Generation] = [:]
    while !batch.isIdle {
      if shouldStop() { return nil }
      for (ticket, generation) in try batch.step() { done[ticket] = generation }
      progress(done.count)
    }
    return zip(records, records.indices.compactMap { done[$0] }).compactMap { record, generation in
      guard case .answer(let question) = record.item.task else { return nil }
      let answer = DocumentAnswer(generation, document: record.original, question: question)
      let text = generation.text.trimmingWhitespace()
      return AnswerLine(
        id: record.id, text: text, answered: answer.answered, inside: generation.applicability?.isInside,
        confidence: answer.confidence ?? 0, loss: loss.loss(text, references: record.references ?? []),
        layers: hasCost ? generation.averageLayer : nil)
    }
  }

  /// Certifies the confidence from which on answers are given; of several ways, of the fastest that answers about as
  /// many questions.
  ///
  /// - Parameters:
  ///   - ways: Fastest first.
  ///   - lines: All questions' answers, by way.
  ///   - settings: ε, δ and the bound, fixed before anything is measured.
  ///   - program: What makes the certificate.
  public func certify(
    _ ways: [Way], _ lines: [[AnswerLine]], settings: CalibrationSettings,
    program: String = EgressVersion.program
  ) throws -> Certified {
    let calibration = try SelectiveCalibration(settings)
    let (chosen, result) =
      ways.count == 1
      ? (0, try calibration.calibrate(lines[0]))
      : try calibration.calibrate(policies: lines.map { $0.map(\.sample) })
    let given = lines[chosen].filter(\.isCandidate)
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: maxTokens)
    let certificate = AnswerCertificate(
      result, settings: settings, confidences: given.map(\.confidence), losses: given.map(\.loss),
      declined: lines[chosen].count - given.count, metric: loss.name,
      policy: try CertifiedAnswers.Policy(
        subject, regime: regime, applicability: applicability?.reference, strategy: ways[chosen].strategy
      ).json(),
      program: program)
    return Certified(certificate: certificate, result: result, chosen: chosen, lines: lines[chosen])
  }
}

extension SelectiveCalibration {
  /// Calibrates on the answers that may be given.
  public func calibrate(_ lines: [AnswerLine]) throws(RiskControlError) -> Result {
    let given = lines.filter(\.isCandidate)
    return try calibrate(confidences: given.map(\.confidence), losses: given.map(\.loss))
  }
}

extension AnswerLine {
  /// Writes a file of such lines, in one step.
  ///
  /// - Throws: ``CertificationError`` where it cannot be written.
  public static func write(_ lines: [AnswerLine], to path: String) throws {
    let text = try lines.map { try JSONOutput.line($0) + "\n" }.joined()
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CertificationError(.runs, "cannot write to \(path): \(error.localizedDescription)")
    }
  }
}
