/// Why a certificate cannot be made, or does not hold for what is to be decoded; a sentence for a person.
public struct CertificationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is at fault, for callers that treat it differently.
  public enum Kind: Sendable, Equatable {
    /// The documents: a file that cannot be read, a line of it, or a document that does not fit the model.
    case documents
    /// The file that a sweep's outputs go to.
    case runs
    /// A certificate that certifies nothing, or that is to be replaced unasked.
    case certificate
    /// A certificate of another model, policy, head, template or regime.
    case notCovered
    /// Shards that do not go together, or that are no shards.
    case shards
    /// Shards that are missing or not whole yet: later they may be.
    case unfinished
    /// A file that cannot be written or that another process holds: later it may be otherwise.
    case storage
  }

  /// What is at fault.
  public let kind: Kind
  /// The sentence.
  public let description: String

  /// Makes an error of a kind with its sentence.
  public init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
}
