import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import SpeculativeDecoding

/// What drafts for a model: a smaller model, or a draft head of its own.
enum LoadedDraft {
  case model(LoadedModel)
  case head(DraftHead)

  /// - Parameters:
  ///   - draft: What --draft says.
  ///   - loaded: The large model.
  /// - Throws: ``CommandError`` where there is no such model or no draft head of this one, and what loading throws.
  init(_ draft: String, for loaded: LoadedModel, threads: Int?) throws {
    guard draft == "head" || draft.hasSuffix(".safetensors") else {
      self = .model(try ModelOptions.load(draft, threads: threads))
      return
    }
    guard let path = draft == "head" ? try Self.shippedHead(loaded) : draft else {
      throw CommandError(
        "no draft head comes with \(loaded.entry?.name ?? loaded.path); --draft takes a .safetensors file that "
          + "has one, or a small model")
    }
    self = .head(
      try DraftHead(path: path, modelDigest: loaded.digest()))
  }

  /// The draft head that comes with a model given by name, or `nil`.
  static func shippedHead(_ loaded: LoadedModel) throws -> String? {
    try loaded.entry.flatMap { try ShippedFiles.heads(.drafts, of: $0) }
  }

  var source: SpeculationStrategy.Source {
    switch self {
    case .model(let small): .model(small.model)
    case .head(let head): .head(head)
    }
  }

  /// - Parameter exits: Where the small model's tokens may leave its layers.
  /// - Throws: `ValidationError` for exits of a draft head, which has one layer.
  func source(exits: ExitStrategy?) throws -> SpeculationStrategy.Source {
    switch self {
    case .model(let small): return .model(small.model, exits: exits)
    case .head(let head):
      guard exits == nil else {
        throw ValidationError("--draft-exit-threshold has no effect with a draft head, which has one layer.")
      }
      return .head(head)
    }
  }

  /// α_FB where none is given.
  var usualFallback: Double {
    switch self {
    case .model: 0.6
    case .head: DraftHead.usualFallback
    }
  }

  /// γ where none is given and drafts may change the output, so that all are of one length.
  var usualDraftLength: Int {
    switch self {
    case .model: 10
    case .head: 3
    }
  }

  var name: String {
    switch self {
    case .model(let small): small.model.name
    case .head(let head): "head \(head.name)"
    }
  }

  /// What certificates know it by.
  func subject() throws -> DecodingSubject.Draft {
    DecodingSubject.Draft(name: name, source: source, digest: try digest())
  }

  /// SHA-256 of its file.
  func digest() throws -> String {
    switch self {
    case .model(let small): try small.digest()
    case .head(let head): head.description.headDigest
    }
  }
}
