import FileFormats
import Foundation
import Generation
import RiskControl

/// A question of a calibration of answers: a line of the file that `calibrate --risk selective` writes.
public struct AnswerLine: Codable, Sendable, Equatable {
  /// Of which document.
  public var id: DocumentIdentifier
  /// What the model wrote.
  public var text: String
  /// Whether that is an answer.
  public var answered: Bool
  /// What the guard says of the document; absent without one.
  public var inside: Bool?
  /// How sure the model was, in [0, 1].
  public var confidence: Double
  /// In [0, 1].
  public var loss: Double
  /// Layers that a token passed on average, where tokens may leave early.
  public var layers: Double?

  /// Puts a line together.
  public init(
    id: DocumentIdentifier, text: String, answered: Bool, inside: Bool?, confidence: Double, loss: Double,
    layers: Double? = nil
  ) {
    self.id = id
    self.text = text
    self.answered = answered
    self.inside = inside
    self.confidence = confidence
    self.loss = loss
    self.layers = layers
  }

  /// Whether the answer may be given, its confidence aside.
  public var isCandidate: Bool { answered && inside != false }

  /// What a study of selective risk reads.
  public var sample: SelectiveStudy.Sample {
    SelectiveStudy.Sample(confidence: isCandidate ? confidence : nil, loss: loss)
  }

  /// Reads a file of such lines.
  ///
  /// - Throws: ``CertificationError`` naming the line that is none, what reading the file throws.
  public static func read(path: String) throws -> [AnswerLine] {
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    return try bytes.split(separator: UInt8(ascii: "\n")).enumerated().map { index, line in
      guard let found = try? JSONOutput.decode(AnswerLine.self, from: line),
        (0...1).contains(found.loss), (0...1).contains(found.confidence)
      else {
        throw CertificationError(
          .runs,
          "\(path) line \(index + 1): expected an answer with confidence and loss in [0, 1], as calibrate "
            + "--risk selective writes them to NAME.answers.jsonl")
      }
      return found
    }
  }
}
