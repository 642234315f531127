import FileFormats
import Foundation
import Generation
import Transformers

/// The guard of a policy, and the file of it that lies beside the certificate.
public struct PolicyGuard: Sendable {
  /// How the policy names it.
  public let reference: ApplicabilityGuard.Reference
  /// What looks at documents.
  public let found: ApplicabilityGuard
  /// Set by the full-depth outputs of the guard's documents.
  public let tripwire: RepetitionTripwire

  /// What happens while a guard is made.
  public enum Progress: Sendable {
    /// So many documents were read.
    case read(Int)
    /// So many of their outputs are there.
    case decoded(Int)
  }

  /// Makes a guard, or takes that of an earlier run on the same documents.
  ///
  /// - Parameters:
  ///   - subject: The model.
  ///   - records: The documents of the guard, which must not certify.
  ///   - path: Its file, beside the certificate.
  ///   - layer: The layer whose states it reads; `nil` for the last.
  ///   - maxTokens: The most tokens of an output; `nil` for what is usual for its task.
  ///   - known: The documents' outputs at full depth, where they are there; `nil` to decode them.
  ///   - shouldStop: Asked before each token.
  ///   - progress: Told how far it is.
  /// - Returns: `nil` where it was told to stop.
  /// - Throws: `GenerationError` for fewer documents than a guard needs, and documents that are all equal.
  public static func make(
    _ subject: DecodingSubject, records: [DocumentRecord], path: String, layer: Int? = nil,
    maxTokens: Int? = nil, outputs known: [[TokenID]]? = nil,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }, progress: (Progress) -> Void = { _ in }
  ) throws -> PolicyGuard? {
    let model = subject.model
    let prompts = try records.map {
      try model.wholePrompt(for: $0, options: model.options(for: $0, maxTokens: maxTokens))
    }
    let digest = Self.digest(of: prompts, model: model)
    var made = existing(path, subject)
    if made?.documentsDigest != digest || made?.layer != layer
      || made.map({ $0.fittedCount + $0.heldBackCount }) != records.count
    {
      made = try fit(
        model, prompts: prompts, layer: layer, modelDigest: subject.modelDigest, documentsDigest: digest,
        shouldStop: shouldStop, progress: progress)
      try made?.write(to: path)
    }
    guard let made else { return nil }
    // Full-depth outputs of the guard's documents say how much repetition is usual.
    let outputs =
      try known
      ?? runAtFullDepth(
        model, prompts: prompts, options: records.map { try model.options(for: $0, maxTokens: maxTokens) },
        shouldStop: shouldStop, progress: progress)
    guard let outputs else { return nil }
    let name = URL(fileURLWithPath: path).lastPathComponent
    return PolicyGuard(
      reference: .init(file: name, digest: try FileDigest.sha256(path: path), guard: made),
      found: made, tripwire: RepetitionTripwire(outputs: outputs, level: made.level))
  }

  /// Documents of the guard that an earlier run has left; `nil` where there is none of this model.
  ///
  /// A guard that is there keeps its documents when more have come, so that what is certified is still the same policy.
  public static func documentCount(_ path: String, for subject: DecodingSubject) -> Int? {
    existing(path, subject).map { $0.fittedCount + $0.heldBackCount }
  }

  /// Sees to it that the guard of shards lies beside the certificate that is made of them, under the name that the
  /// certificate knows.
  ///
  /// - Parameters:
  ///   - reference: How the shards name it.
  ///   - folder: Where they lie.
  ///   - path: Where it has to be.
  /// - Throws: ``CertificationError`` where it is not there or is another.
  public static func place(
    _ reference: ApplicabilityGuard.Reference, from folder: String, at path: String
  ) throws {
    guard (path as NSString).lastPathComponent == reference.file else {
      throw CertificationError(
        .certificate,
        "the certificate's guard is called \(reference.file); give an --output that goes with it, in whatever folder"
      )
    }
    let manager = FileManager.default
    let beside = (folder as NSString).appendingPathComponent(reference.file)
    if !manager.fileExists(atPath: path), manager.fileExists(atPath: beside) {
      try manager.copyItem(atPath: beside, toPath: path)
    }
    guard manager.fileExists(atPath: path) else {
      throw CertificationError(.unfinished, "\(path), which the shards were made with, is not there")
    }
    guard try FileDigest.sha256(path: path) == reference.digest else {
      throw CertificationError(.certificate, "\(path) is not the guard that the shards were made with")
    }
  }

  private static func existing(_ path: String, _ subject: DecodingSubject) -> ApplicabilityGuard? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    // One that cannot be used is made anew.
    return try? ApplicabilityGuard(
      path: path, modelDigest: subject.modelDigest,
      hiddenSize: subject.model.decoder.configuration.hiddenSize)
  }

  private static func fit(
    _ model: LanguageModel, prompts: [[TokenID]], layer: Int?, modelDigest: String, documentsDigest: String,
    shouldStop: () -> Bool, progress: (Progress) -> Void
  ) throws -> ApplicabilityGuard? {
    var profiles: [[Float]] = []
    for prompt in prompts {
      guard let profile = try model.promptProfile(prompt, layer: layer, shouldStop: shouldStop) else {
        return nil
      }
      profiles.append(profile)
      progress(.read(profiles.count))
    }
    let half = (profiles.count + 1) / 2
    return try ApplicabilityGuard(
      fitting: Array(profiles.prefix(half)), heldBack: Array(profiles.dropFirst(half)), layer: layer,
      modelDigest: modelDigest, documentsDigest: documentsDigest)
  }

  private static func runAtFullDepth(
    _ model: LanguageModel, prompts: [[TokenID]], options: [GenerationOptions],
    shouldStop: @escaping () -> Bool, progress: (Progress) -> Void
  ) throws -> [[TokenID]]? {
    let batch = BatchDecoder(model: model, shouldStop: shouldStop)
    for (prompt, options) in zip(prompts, options) { batch.submit(prompt: prompt, options: options) }
    var outputs: [[TokenID]] = []
    while !batch.isIdle {
      if shouldStop() { return nil }
      outputs += try batch.step().map(\.generation.tokenIDs)
      progress(.decoded(outputs.count))
    }
    return outputs
  }

  /// SHA-256 of prompts and of the way the model computes.
  private static func digest(of prompts: [[TokenID]], model: LanguageModel) -> String {
    let lines = prompts.map { $0.map(String.init).joined(separator: " ") + "\n" }
    return FileDigest.sha256(text: model.computeDescription + "\n" + lines.joined())
  }
}
