import EarlyExit
import SpeculativeDecoding

/// What the parts of decoding cost on this machine, in milliseconds.
public enum SweepCosts: Codable, Sendable, Equatable {
  /// Of early exits.
  case exits(ExitCosts)
  /// Of drafts.
  case drafts(DraftCosts)
  /// Of prompts whose tokens stop after a layer.
  case prompts(PromptCosts)
  /// Of such prompts, and of outputs with early exits.
  case documents(DocumentCosts<ExitCosts>)
  /// Of such prompts, and of outputs with drafts.
  case draftedDocuments(DocumentCosts<DraftCosts>)

  /// Measures a subject on this machine: its drafts where it has some, otherwise exits.
  ///
  /// - Parameters:
  ///   - subject: The model, with its drafts or exits.
  ///   - prompts: Measures what prompts that stop after a layer cost, too.
  public static func measured(_ subject: DecodingSubject, prompts: Bool = false) throws -> SweepCosts {
    let decoder = subject.model.decoder
    guard let draft = subject.draft else {
      let output = try ExitCosts.measured(decoder, heads: subject.heads)
      return prompts ? .documents(.init(prompt: try .measured(decoder), output: output)) : .exits(output)
    }
    let output = try DraftCosts.measured(subject.model, source: draft.source)
    return prompts
      ? .draftedDocuments(.init(prompt: try .measured(decoder), output: output)) : .drafts(output)
  }

  /// What an output takes: a token of it with exits or drafts, and where prompts stop the whole document.
  ///
  /// - Parameters:
  ///   - work: What decoding it took.
  ///   - threshold: At which threshold it came about.
  /// - Throws: ``CertificationError`` for the work of another way of decoding.
  func milliseconds(of work: SweepWork, threshold: Double) throws -> Double {
    switch (self, work) {
    case (.exits(let costs), .exits(let work)): return costs.costPerToken(of: work)
    case (.drafts(let costs), .drafts(let work)): return costs.milliseconds(of: work, threshold: threshold)
    case (.prompts(let costs), .prompts(let work)): return costs.milliseconds(of: work)
    case (.documents(let costs), .documents(let work)):
      return costs.prompt.milliseconds(of: work.prompt) + costs.output.cost(of: work.output)
    case (.draftedDocuments(let costs), .draftedDocuments(let work)):
      return costs.prompt.milliseconds(of: work.prompt)
        + costs.output.milliseconds(of: work.output, threshold: threshold)
        * Double(max(work.output.tokens - 1, 0))
    default:
      throw CertificationError(
        .runs, "the file of runs has the costs of another way of decoding than its outputs")
    }
  }

  /// Reads the costs of whichever kind they are.
  public init(from decoder: any Decoder) throws {
    if let costs = try? ExitCosts(from: decoder) {
      self = .exits(costs)
    } else if let costs = try? PromptCosts(from: decoder) {
      self = .prompts(costs)
    } else if let costs = try? DocumentCosts<ExitCosts>(from: decoder) {
      self = .documents(costs)
    } else if let costs = try? DocumentCosts<DraftCosts>(from: decoder) {
      self = .draftedDocuments(costs)
    } else {
      self = .drafts(try DraftCosts(from: decoder))
    }
  }

  /// Writes the costs as they are by themselves.
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .exits(let costs): try costs.encode(to: encoder)
    case .drafts(let costs): try costs.encode(to: encoder)
    case .prompts(let costs): try costs.encode(to: encoder)
    case .documents(let costs): try costs.encode(to: encoder)
    case .draftedDocuments(let costs): try costs.encode(to: encoder)
    }
  }
}

extension DraftCosts {
  /// A token of an output at a rollback threshold. The output at 0 is the large model's own, which needs no drafts.
  fileprivate func milliseconds(of work: DraftWork, threshold: Double) -> Double {
    threshold == 0 ? min(milliseconds(of: work), plain) : milliseconds(of: work)
  }
}
