import EarlyExit
import FileFormats
import Generation
import SpeculativeDecoding

/// What decodes: a model, with its exit heads or with what drafts for it, and the digests that certificates know them
/// by.
public struct DecodingSubject: Sendable {
  /// What drafts for a model.
  public struct Draft: Sendable {
    /// What it is called.
    public var name: String
    /// The small model or the draft head.
    public var source: SpeculationStrategy.Source
    /// SHA-256 of its file.
    public var digest: String

    /// Puts a draft together.
    public init(name: String, source: SpeculationStrategy.Source, digest: String) {
      self.name = name
      self.source = source
      self.digest = digest
    }
  }

  /// The model whose output is certified.
  public var model: LanguageModel
  /// SHA-256 of its file or directory.
  public var modelDigest: String
  /// Its exit heads; `nil` for its own head.
  public var heads: ExitHeads?
  /// SHA-256 of their file.
  public var headsDigest: String?
  /// What drafts for it; `nil` for early exits.
  public var draft: Draft?

  /// Puts a subject together from parts whose digests are known.
  public init(
    model: LanguageModel, modelDigest: String, heads: ExitHeads? = nil, headsDigest: String? = nil,
    draft: Draft? = nil
  ) {
    self.model = model
    self.modelDigest = modelDigest
    self.heads = heads
    self.headsDigest = headsDigest
    self.draft = draft
  }

  /// Loads a model, and exit heads where there are some.
  ///
  /// - Parameters:
  ///   - path: A GGUF file or a Hugging Face directory.
  ///   - heads: A file of exit heads that were fitted to this model.
  ///   - threads: Threads to compute with; `nil` for the usual number.
  /// - Throws: What loading throws, and `EarlyExitError` for heads of another model.
  public init(path: String, heads: String? = nil, threads: Int? = nil) throws {
    let model = try LanguageModel(path: path, threads: threads)
    let digest = try FileDigest.sha256(model: path)
    self.init(
      model: model, modelDigest: digest,
      heads: try heads.map { try ExitHeads(path: $0, modelDigest: digest) },
      headsDigest: try heads.map { try FileDigest.sha256(path: $0) })
  }
}
