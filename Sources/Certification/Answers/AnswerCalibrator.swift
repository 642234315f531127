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
  public private(set) var records: [DocumentRecord]
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

  /// The same for one shard's questions, which certify nothing by themselves.
  public func restricted(to shard: Shard) -> AnswerCalibrator {
    var part = self
    part.records = records.filter { shard.contains($0.id) }
    return part
  }

  /// What a certificate says of each way.
  ///
  /// - Throws: ``CertificationError`` for a way that cannot be certified.
  public func described(_ ways: [Way]) throws -> AnswerWays {
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: maxTokens)
    return AnswerWays(
      metric: loss.name, names: ways.map(\.name),
      policies: try ways.map {
        try CertifiedAnswers.Policy(
          subject, regime: regime, applicability: applicability?.reference, strategy: $0.strategy
        ).json()
      })
  }

  /// Answers all questions.
  ///
  /// - Parameters:
  ///   - ways: How answers come about. With several, lines say how many layers tokens passed.
  ///   - count: Questions from the first on that are left out, since an earlier run has answered them.
  ///   - shouldStop: Asked before each token.
  ///   - finished: Told of each question's answers, one a way, in the order of the questions.
  /// - Returns: `false` where it was told to stop.
  public func answer(
    by ways: [Way], skipping count: Int = 0, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    finished: (_ question: Int, [AnswerLine]) throws -> Void
  ) throws -> Bool {
    // Every way reads the same prompts.
    let batch = BatchDecoder(
      model: subject.model, prefixes: PrefixCache(byteLimit: Self.beginningBytes), shouldStop: shouldStop)
    var tickets: [[BatchDecoder.Ticket]] = []
    for record in records.dropFirst(count) {
      var options = try subject.model.options(for: record, maxTokens: maxTokens)
      options.recordsProbabilities = true
      options.applicability = applicability?.found
      let prompt = try subject.model.wholePrompt(for: record, options: options)
      tickets.append(
        ways.map { batch.submit(prompt: prompt, options: options, strategy: $0.strategy ?? FullDepth()) })
    }
    var done: [BatchDecoder.Ticket: Generation] = [:]
    var next = 0
    while next < tickets.count {
      if shouldStop() { return false }
      for (ticket, generation) in try batch.step() { done[ticket] = generation }
      while next < tickets.count, tickets[next].allSatisfy({ done[$0] != nil }) {
        let question = count + next
        let outputs = tickets[next].compactMap { done.removeValue(forKey: $0) }
        try finished(
          question, outputs.map { line(of: $0, to: records[question], hasCost: ways.count > 1) })
        next += 1
      }
    }
    return true
  }

  /// Bytes of keys and values that are kept for prompts that begin alike.
  private static let beginningBytes = 1 << 28

  private func line(of generation: Generation, to record: DocumentRecord, hasCost: Bool) -> AnswerLine {
    // Other tasks are refused by ``check(_:loss:name:)``.
    var question = ""
    if case .answer(let asked) = record.item.task { question = asked }
    let answer = DocumentAnswer(generation, document: record.original, question: question)
    let text = generation.text.trimmingWhitespace()
    return AnswerLine(
      id: record.id, text: text, answered: answer.answered, inside: generation.applicability?.isInside,
      confidence: answer.confidence ?? 0, loss: loss.loss(text, references: record.references ?? []),
      layers: hasCost ? generation.averageLayer : nil)
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
