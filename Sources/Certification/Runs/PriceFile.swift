import FileFormats
import Foundation

/// What the parts of decoding cost on one machine, in a file, so that runs on several machines price alike.
public struct PriceFile: Codable, Sendable, Equatable {
  /// SHA-256 of the model.
  public var modelDigest: String
  /// How the model computes; `nil` for quantised.
  public var compute: String?
  /// SHA-256 of the exit heads; `nil` where there are none, and for drafts.
  public var headsDigest: String?
  /// SHA-256 of what drafts; `nil` for exits.
  public var draftDigest: String?
  /// Milliseconds.
  public var costs: SweepCosts

  enum CodingKeys: String, CodingKey {
    case compute
    case modelDigest = "model_sha256"
    case headsDigest = "heads_sha256"
    case draftDigest = "draft_sha256"
    case costs = "milliseconds"
  }

  /// Prices of a subject: of drafts where it has a draft, otherwise of exits or of prompts.
  public init(_ subject: DecodingSubject, costs: SweepCosts) {
    modelDigest = subject.modelDigest
    compute = subject.model.computeName
    headsDigest = subject.draft == nil ? subject.headsDigest : nil
    draftDigest = subject.draft?.digest
    self.costs = costs
  }

  /// Measures the subject on this machine.
  ///
  /// - Parameters:
  ///   - subject: The model, with its exit heads or its draft.
  ///   - prompts: Measures what prompts that stop after a layer cost, too.
  public static func measured(_ subject: DecodingSubject, prompts: Bool = false) throws -> PriceFile {
    try PriceFile(subject, costs: .measured(subject, prompts: prompts))
  }

  /// Reads a file.
  public static func read(path: String) throws -> PriceFile {
    guard let bytes = FileManager.default.contents(atPath: path) else {
      throw CertificationError(.runs, "cannot read the prices \(path)")
    }
    do {
      return try JSONDecoder().decode(PriceFile.self, from: bytes)
    } catch let error as DecodingError {
      throw CertificationError(
        .runs, "\(path) has no prices that egress bench --prices wrote: \(error.sentence)")
    }
  }

  /// The file's text; equal prices are equal texts.
  public func text() throws -> String {
    String(decoding: try CanonicalJSON.document(self), as: UTF8.self)
  }

  /// Writes a file, in one step.
  public func write(to path: String) throws {
    let text = try text()
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CertificationError(.storage, "cannot write to \(path): \(error.localizedDescription)")
    }
  }

  /// The costs, if they are those of a policy.
  ///
  /// - Parameters:
  ///   - policy: What is to be calibrated.
  ///   - name: What the file is called in messages.
  /// - Throws: ``CertificationError`` for prices of another model, of other heads, of another draft or way of
  ///   computing.
  public func costs(for policy: PolicyDescription, name: String) throws -> SweepCosts {
    func refuse(_ what: String) -> CertificationError {
      CertificationError(.runs, "\(name) has the prices of \(what); make them with egress bench --prices")
    }
    guard modelDigest == policy.modelDigest else { throw refuse("another model") }
    let costs: SweepCosts
    switch (policy, self.costs) {
    case (.exits(let policy), .exits) where policy.prompt == nil: costs = self.costs
    case (.exits(let policy), .documents(let both)):
      costs = policy.prompt == nil ? .exits(both.output) : self.costs
    case (.drafts(let policy), .drafts) where policy.prompt == nil: costs = self.costs
    case (.drafts(let policy), .draftedDocuments(let both)):
      costs = policy.prompt == nil ? .drafts(both.output) : self.costs
    case (.prompts, .documents(let both)): costs = .prompts(both.prompt)
    case (.prompts, .draftedDocuments(let both)): costs = .prompts(both.prompt)
    case (.prompts, .prompts): costs = self.costs
    case (.exits(let policy), _):
      throw refuse("something else than exits" + (policy.prompt == nil ? "" : " after prompts that stop"))
    case (.drafts(let policy), _):
      throw refuse("something else than drafts" + (policy.prompt == nil ? "" : " after prompts that stop"))
    case (.prompts, _): throw refuse("something else than prompts")
    }
    guard compute == policy.compute else { throw refuse("another --compute") }
    switch policy {
    case .exits(let policy):
      guard headsDigest == policy.headsDigest else { throw refuse("other exit heads") }
    case .drafts(let policy):
      guard draftDigest == policy.draftDigest else { throw refuse("another draft") }
    case .prompts: break
    }
    return costs
  }
}
