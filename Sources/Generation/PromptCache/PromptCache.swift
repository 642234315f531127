import FileFormats
import Foundation
import Transformers

/// Keys and values of a prompt, kept in a file so that a later process does not read the same tokens again.
///
/// ```swift
/// var options = GenerationOptions()
/// options.promptCache = try PromptCache(path: "report.cache", model: model, modelDigest: digest)
/// let session = try model.makeSession(prompt: prompt, options: options)
/// while let step = try session.next() { print(step.text, terminator: "") }
/// try options.promptCache?.save(session)
/// ```
///
/// A prompt that begins with the tokens of the file goes on from them, and gets the very numbers that reading them
/// gives. The file is checked as a whole before any of it is used: by its SHA-256, by its sizes, by the model, and by
/// how that computes. The SHA-256 tells damage, not intent: whoever may write the file may choose what the model
/// remembers of a text, so use files of your own.
///
/// `@unchecked Sendable`: what is read from the file is never changed afterwards.
public final class PromptCache: @unchecked Sendable {
  /// Where the file is, or is to be.
  public let path: String
  /// The tokens whose keys and values the file has; none where there is no file.
  public let tokens: [TokenID]

  let header: PromptCacheHeader
  /// Of the file: the layer after which a guard's sums were taken; `nil` where it has none.
  private let guardLayer: Int?
  private let sums: [Double]
  private let cache: KeyValueCache?
  private let decoder: any DecoderModel

  /// Opens a file, or sees that there is none.
  ///
  /// - Parameters:
  ///   - path: The file. It is written by ``save(_:)`` alone.
  ///   - model: The model that goes on from it.
  ///   - modelDigest: SHA-256 of the model's file, in hexadecimal.
  /// - Throws: ``GenerationError/promptCache(file:problem:)`` for a file that is damaged, or of another model, another
  ///   program or other settings, and for a model that can have none; `FileError` for what cannot be read or written;
  ///   `DecoderError` when memory for it is not to be had.
  /// - Complexity: O(bytes of the file).
  public init(path: String, model: LanguageModel, modelDigest: String) throws {
    let target = Self.resolved(path)
    self.path = target
    decoder = model.decoder
    let own = try PromptCacheHeader(model: model, modelDigest: modelDigest, path: target)
    guard MappedFile.exists(target) else {
      try Self.checkFolder(of: target)
      header = own
      (tokens, sums, guardLayer, cache) = ([], [], nil, nil)
      return
    }
    let contents = try PromptCacheFile.read(target, for: model, expected: own)
    header = own
    (tokens, sums) = (contents.tokens, contents.sums)
    (guardLayer, cache) = (contents.guardLayer, contents.cache)
  }

  /// What a link points to, which is what gets replaced.
  private static func resolved(_ path: String) -> String {
    MappedFile.exists(path) ? URL(fileURLWithPath: path).resolvingSymlinksInPath().path : path
  }

  /// So that an output is not waited for in vain.
  private static func checkFolder(of path: String) throws {
    let folder = (path as NSString).deletingLastPathComponent
    guard access(folder.isEmpty ? "." : folder, W_OK) == 0 else {
      throw FileError(
        kind: .unreadable, file: path, field: "", expected: "a file that can be written",
        found: String(cString: strerror(errno)))
    }
  }

  /// Beginnings shorter than this are read.
  public static let shortestBeginning = PrefixCache.shortest

  /// How many tokens at the beginning of a prompt the file has.
  public func commonCount(with prompt: [TokenID]) -> Int {
    zip(tokens, prompt).prefix { $0.0 == $0.1 }.count
  }

  /// Tokens of a session's prompt that came from a file; `nil` before the prompt is read, and for sessions that know of
  /// none.
  public static func reusedTokens(of session: any GenerationSession) -> Int? {
    (session as? any PromptHolding)?.readSequence?.reusedCount
  }

  /// - Throws: ``GenerationError`` for options and models whose prompts leave other keys and values.
  func check(_ options: GenerationOptions, _ model: LanguageModel) throws(GenerationError) {
    if let depth = options.promptDepth, depth < model.decoder.configuration.layerCount {
      throw .option(
        field: "prompt-cache",
        expected: "absent for prompts that stop after a layer and leave other keys and values",
        found: path)
    }
  }

  /// Puts what the file has of a prompt's beginning into an empty cache.
  ///
  /// - Parameters:
  ///   - layer: That of a guard that looks at the prompt.
  ///   - profile: What the guard reads of the prompt; it then has the tokens that need not be read. `nil` without one.
  /// - Returns: How many tokens need not be read. The last one is in any case: it gives the first logits.
  func fill(
    _ target: KeyValueCache, with prompt: [TokenID], of model: LanguageModel, layer: Int?,
    profile: inout PromptProfile?
  ) -> Int {
    guard let cache, model.decoder === decoder else { return 0 }
    var count = min(commonCount(with: prompt), prompt.count - 1)
    var begun: PromptProfile?
    if profile != nil {
      guard guardLayer == layer ?? model.decoder.configuration.layerCount else { return 0 }
      count -= count % PromptProfile.spacing
      begun = PromptProfile(
        hiddenSize: model.decoder.configuration.hiddenSize, sums: sums, count: count)
      guard begun != nil else { return 0 }
    }
    guard count >= Self.shortestBeginning, target.copyBeginning(of: cache, count: count) == count else {
      target.crop(to: 0)
      return 0
    }
    profile = begun
    return count
  }

  /// Replaces the file by the prompt of a session, unless it has that already.
  ///
  /// It is written beside the file and takes its name when it is whole. Where another process is writing the same file,
  /// that one's is as good. A prompt that is not through is not kept.
  ///
  /// - Returns: Whether the file was written.
  /// - Throws: `FileError` where it cannot be.
  @discardableResult
  public func save(_ session: any GenerationSession) throws -> Bool {
    guard let sequence = (session as? any PromptHolding)?.readSequence, sequence.source == nil else {
      return false
    }
    let (prompt, profile) = (sequence.prompt, sequence.profile)
    let layer = profile.map { _ in
      sequence.applicabilityGuard?.layer ?? decoder.configuration.layerCount
    }
    // A file that begins with the prompt has all of it, and what a guard wants to know, if one looked.
    if tokens.starts(with: prompt), layer == nil || layer == guardLayer { return false }
    var header = header
    header.tokens = prompt.count
    header.guardLayer = layer
    return try PromptCacheFile.write(path, header, prompt, sums: profile?.sums ?? [], cache: sequence.cache)
  }
}

/// A session that knows its prompt's keys and values.
package protocol PromptHolding: GenerationSession {
  /// The sequence, once its prompt has passed all layers.
  var readSequence: SequenceDecoding? { get }
}
