import Transformers

/// What a sequence has read, for prompts that begin with the same tokens.
///
/// Keys and values are those of full depth, as far as ``tokens`` go and the cache is filled.
package struct Beginning {
  /// Those of the sequence; the last may be missing from the cache.
  package var tokens: [TokenID]
  package var cache: KeyValueCache
  /// What a guard has read of the prompt, and after which layer; `nil` where none has.
  var profile: (layer: Int?, read: PromptProfile)?
  /// What was kept of the prompt's tokens beside the model's own cache.
  package var companions: [any BeginningCompanion] = []

  /// Bytes that it takes to keep it.
  var byteCount: Int {
    cache.byteCount + (profile?.read.byteCount ?? 0) + companions.reduce(0) { $0 + $1.byteCount }
  }

  /// Tokens of a prompt that need not be read again; its last one is in any case.
  func shared(with prompt: [TokenID]) -> Int {
    min(zip(tokens, prompt).prefix { $0.0 == $0.1 }.count, cache.filled.min() ?? 0, prompt.count - 1)
  }

  /// Of some tokens those that a prompt with a guard need not read again: what the guard reads has to be known up to
  /// there.
  func count(_ count: Int, for applicability: ApplicabilityGuard?) -> Int {
    guard let applicability else { return count }
    guard let profile, profile.layer == applicability.layer else { return 0 }
    return profile.read.lastMark(upTo: count)
  }

  /// Whether it serves every prompt that another does, as far as the other's tokens go.
  func replaces(_ other: Beginning) -> Bool {
    guard tokens.starts(with: other.tokens.prefix(other.cache.filled.min() ?? 0)) else { return false }
    if let theirs = other.profile {
      guard let own = profile, own.layer == theirs.layer, own.read.count >= theirs.read.count else {
        return false
      }
    }
    return other.companions.allSatisfy { theirs in companions.contains { $0.replaces(theirs) } }
  }
}

/// What a drafter keeps of the tokens of a prompt, beside the model's own cache.
package protocol BeginningCompanion {
  /// Bytes that it takes to keep it.
  var byteCount: Int { get }
  /// Whether it serves everyone that another one does.
  func replaces(_ other: any BeginningCompanion) -> Bool
}

/// A session whose prompt others may go on from.
package protocol BeginningSession: GenerationSession {
  /// What it has read so far.
  var beginning: Beginning { get }
  /// Tokens of the prompt that another sequence had read already.
  var reusedTokens: Int { get }
}
