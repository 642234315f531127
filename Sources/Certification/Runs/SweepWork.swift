import EarlyExit
import Generation
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
  ///   - prompt: Tokens of the prompt.
  ///   - depth: The layer after which all but the last ones stop.
  ///   - isInside: What the guard says of the document: all tokens pass all layers where that is `false`.
  ///   - output: Tokens of the output, where they are not counted elsewhere.
  ///   - trippedAt: Tokens of the output that were kept when it was brought back to full depth: after a prompt that
  ///     stopped, they and the prompt are read again. `nil` where it was not.
  init(
    prompt: Int, depth: Int, layerCount: Int, isInside: Bool?, output: Int = 0, trippedAt: Int? = nil
  ) {
    let shallow =
      isInside == false || depth >= layerCount ? 0 : max(0, prompt - LanguageModel.deepPromptTokens)
    layer = (prompt - shallow) * layerCount + shallow * depth
    if shallow > 0, let trippedAt { layer += (prompt + trippedAt - 1) * layerCount }
    propagatedLayer = shallow * (layerCount - depth)
    token = max(output - 1, 0)
  }
}

/// What a document took whose prompt's tokens may stop after a layer and whose output's tokens leave early or are
/// drafted, in counts. ``DocumentCosts`` says what it costs.
public struct DocumentWork<Output: Codable & Sendable & Equatable>: Codable, Sendable, Equatable {
  /// Reading the prompt, and reading it again; the tokens of the output are in the other part.
  public var prompt: PromptWork
  /// Writing the output.
  public var output: Output

  /// Puts both together.
  init(prompt: PromptWork, output: Output) {
    self.prompt = prompt
    self.output = output
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
  /// Of such a prompt, and of an output with early exits.
  case documents(DocumentWork<ExitWork>)
  /// Of such a prompt, and of an output with drafts.
  case draftedDocuments(DocumentWork<DraftWork>)

  /// Reads the counts of whichever kind they are.
  public init(from decoder: any Decoder) throws {
    if let work = try? ExitWork(from: decoder) {
      self = .exits(work)
    } else if let work = try? PromptWork(from: decoder) {
      self = .prompts(work)
    } else if let work = try? DocumentWork<ExitWork>(from: decoder) {
      self = .documents(work)
    } else if let work = try? DocumentWork<DraftWork>(from: decoder) {
      self = .draftedDocuments(work)
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
    case .documents(let work): try work.encode(to: encoder)
    case .draftedDocuments(let work): try work.encode(to: encoder)
    }
  }
}
