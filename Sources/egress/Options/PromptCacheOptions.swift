import ArgumentParser
import Generation

/// A file of keys and values, so that a prompt is not read again.
struct PromptCacheOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Keep what the model has read of the prompt in this file: a prompt that begins alike, such as another question on \
      the same document, goes on from there. It changes no output.
      """, valueName: "file"))
  var promptCache: String?

  /// - Parameter other: What of the other options does not go together with it; `nil` for nothing.
  func validate(exits: ExitOptions, search: BeamOptions, documents: DocumentOptions? = nil) throws {
    guard promptCache != nil else { return }
    let others = [
      ("--beams", search.beams != nil), ("--prompt-depth", exits.promptDepth != nil),
      ("--input, which reads what documents have in common once", documents?.input != nil),
    ]
    for (name, isGiven) in others where isGiven {
      throw ValidationError("--prompt-cache does not go together with \(name); give one of them.")
    }
  }

  /// Opens the file for a model.
  func open(for loaded: LoadedModel) throws -> PromptCache? {
    try promptCache.map {
      try PromptCache(path: $0, model: loaded.model, modelDigest: loaded.digest())
    }
  }
}

extension PromptCache {
  /// Says what a session had of the file, and writes the file anew where it lacks the session's prompt.
  func settle(_ session: any GenerationSession) throws {
    let (reused, count) = (Self.reusedTokens(of: session) ?? 0, session.generation.promptTokenIDs.count)
    if reused > 0 {
      Console.note("\(reused) of the prompt's \(count) tokens were read from \(path)")
    } else if commonCount(with: session.generation.promptTokenIDs) >= Self.shortestBeginning {
      Console.note(
        "\(path) spared nothing: a draft head, or a guard that was not there when it was written, looks at every token "
          + "of the prompt")
    }
    try save(session)
  }
}
