import EarlyExit
import SpeculativeDecoding

/// What reading a prompt and writing an output took, in counts. ``PromptCosts`` says what it costs.
public struct PromptWork: Codable, Sendable, Equatable {
  /// Layers that the prompt's tokens passed, all together.
  public var layer: Int
  /// Skipped layers whose keys and values were made.
  public var propagatedLayer: Int
  /// Tokens of the output after the first.
  public var token: Int

  /// - Parameters:
  ///   - shallow: Tokens of the prompt that stop after `depth` layers; the others pass all `layerCount`.
  init(prompt: Int, shallow: Int, depth: Int, layerCount: Int, output: Int) {
    layer = (prompt - shallow) * layerCount + shallow * depth
    propagatedLayer = shallow * (layerCount - depth)
    token = max(output - 1, 0)
  }
}

/// What decoding one output took, in counts: they are the same on every machine, and ``SweepCosts`` makes milliseconds
/// of them.
public enum SweepWork: Codable, Sendable, Equatable {
  /// With early exits.
  case exits(ExitWork)
  /// With drafts.
  case drafts(DraftWork)
  /// Of a prompt whose tokens stop after a layer.
  case prompts(PromptWork)

  /// Reads the counts of whichever kind they are.
  public init(from decoder: any Decoder) throws {
    if let work = try? ExitWork(from: decoder) {
      self = .exits(work)
    } else if let work = try? PromptWork(from: decoder) {
      self = .prompts(work)
    } else {
      self = .drafts(try DraftWork(from: decoder))
    }
  }

  /// Writes the counts as they are by themselves.
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .exits(let work): try work.encode(to: encoder)
    case .drafts(let work): try work.encode(to: encoder)
    case .prompts(let work): try work.encode(to: encoder)
    }
  }
}
