import EarlyExit
import Generation
import Transformers

/// What decoding with a small model's drafts costs, in milliseconds measured on this machine.
public struct DraftCosts: Sendable, Equatable, Codable {
  /// A pass of the large model and its head, by the number of tokens, from 1.
  public var pass: [Double]
  /// The same with a head for the draft head's shortlist and a prompt's tokens, where it has a shortlist.
  public var shortlistPass: [Double]?
  /// The small model's pass of one token, with its head.
  public var draft: Double

  /// Sets all costs, in one unit: milliseconds or bytes.
  public init(pass: [Double], shortlistPass: [Double]? = nil, draft: Double) {
    self.pass = pass
    self.shortlistPass = shortlistPass
    self.draft = draft
  }

  /// Measures a model and what drafts for it, each figure the best of several rounds. A head for several tokens is
  /// taken to grow with them as the layers do.
  ///
  /// - Parameters:
  ///   - model: The large model.
  ///   - source: A model or a draft head; the others' drafts cost nothing.
  /// - Throws: `DecoderError`, also when a model's context is too short for the measurement.
  public static func measured(_ model: LanguageModel, source: SpeculationStrategy.Source) throws -> DraftCosts
  {
    func passes(_ model: any DecoderModel, shortlist: ExitHeads? = nil) throws -> [[Double]] {
      let costs = try ExitCosts.measured(model, heads: shortlist)
      return [costs.head, costs.exitHead].map { head in
        let one = Double(model.configuration.layerCount) * costs.layer[0] + head
        return costs.layer.map { one * $0 / costs.layer[0] }
      }
    }
    let shortlist = source.shortlist
    let draft =
      switch source {
      case .model(let small, _): try passes(small.decoder)[0][0]
      case .head(let head): try HeadDrafter.milliseconds(head, model: model)
      case .promptLookup, .earlyExit: 0.0
      }
    let own = try passes(model.decoder, shortlist: shortlist)
    return DraftCosts(pass: own[0], shortlistPass: shortlist == nil ? nil : own[1], draft: draft)
  }

  /// A token of the large model alone.
  public var plain: Double { pass.first ?? 0 }

  /// A token, on average over those after the first, of an output that was decoded with drafts. The small model reads
  /// what it drafted, and once in a pass what it did not.
  public func milliseconds(of work: DraftWork) -> Double {
    guard work.steps > 0, work.tokens > 1 else { return plain }
    let steps = Double(work.steps)
    let drafted = Double(work.drafted)
    let rows = 1 + drafted / steps
    let reduced = Double(work.shortlistSteps)
    let passes =
      (steps - reduced) * Self.pass(pass, rows: rows) + reduced * Self.pass(shortlistPass ?? pass, rows: rows)
    return (passes + (steps + drafted) * draft) / Double(work.tokens - 1)
  }

  /// Between whole numbers of tokens along the straight line; beyond the last as much a token as there.
  private static func pass(_ pass: [Double], rows: Double) -> Double {
    guard let last = pass.last else { return 0 }
    guard rows < Double(pass.count) else { return last * rows / Double(pass.count) }
    let index = Int(rows) - 1
    return pass[index] + (rows - rows.rounded(.down)) * (pass[index + 1] - pass[index])
  }
}
