import ArgumentParser
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import Transformers

/// The guard of a certificate, and the file beside it.
struct CertificateGuard {
  let reference: ApplicabilityGuard.Reference
  let found: ApplicabilityGuard
  /// Set by the full-depth outputs of the guard's documents.
  let tripwire: RepetitionTripwire
  /// Documents of --data that made it, from the first on: they do not certify.
  let documents: Int

  /// Makes the guard of a calibration, or takes that of an earlier run on the same documents.
  ///
  /// A guard that is there keeps its documents when more have come, so that what is certified is still the same policy.
  ///
  /// - Parameters:
  ///   - stem: What the name of its file begins with.
  ///   - check: Is told how many documents are left to certify, before the model is run.
  /// - Returns: `nil` where none is wanted or there are too few documents.
  /// - Throws: `EarlyExitError` for fewer documents than a guard needs, and documents that are all equal; `ExitCode` after an
  ///   interruption.
  static func make(
    _ loaded: LoadedModel, records: [BatchRecord], options: CalibrationGuard, stem: String,
    maxTokens: Int?,
    check: (Int) throws -> Void
  ) throws -> CertificateGuard? {
    guard !options.noGuard else { return nil }
    let path = stem + ".guard.safetensors"
    var sources = records
    if let data = options.guardData {
      sources = try BatchInput.read(data)
    } else if options.guardDocuments == nil, records.count < CalibrationGuard.fewestDocuments {
      return nil
    }
    let model = try loaded.digest()
    let hiddenSize = loaded.model.decoder.configuration.hiddenSize
    let existing =
      FileManager.default.fileExists(atPath: path)
      ? try? ApplicabilityGuard(path: path, modelDigest: model, hiddenSize: hiddenSize) : nil
    let usual =
      options.guardData == nil
      ? min(CalibrationGuard.mostDocuments, records.count / 3) : sources.count
    let kept = existing.map { $0.fittedCount + $0.heldBackCount }
    let count = options.guardDocuments ?? kept ?? usual
    guard count <= sources.count, options.guardData != nil || count < records.count else {
      throw CommandError(
        "the guard takes \(count) documents, and there are \(sources.count)"
          + (options.guardData == nil ? ", some of which have to certify" : ""))
    }
    try check(options.guardData == nil ? records.count - count : records.count)
    let requests = try sources.prefix(count).map { record in
      try loaded.model.wholePrompt(
        for: record, options: loaded.model.options(for: record, maxTokens: maxTokens))
    }
    let digest = Self.digest(of: requests, model: loaded.model)
    var made = existing
    if existing?.documentsDigest != digest || kept != count {
      made = try fit(loaded.model, prompts: requests, modelDigest: model, documentsDigest: digest)
      try made?.write(to: path)
    }
    guard let made else { return nil }
    // Full-depth outputs of the guard's documents say how much repetition is usual.
    let outputs = try runAtFullDepth(
      loaded.model, prompts: requests,
      options: sources.prefix(count).map { try loaded.model.options(for: $0, maxTokens: maxTokens) })
    let name = URL(fileURLWithPath: path).lastPathComponent
    return CertificateGuard(
      reference: .init(file: name, digest: try FileDigest.sha256(path: path), guard: made),
      found: made, tripwire: RepetitionTripwire(outputs: outputs, level: made.level),
      documents: options.guardData == nil ? count : 0)
  }

  /// Said where few documents made none, and none was refused.
  static func absence(_ count: Int) -> String {
    "no guard: \(count) documents are few to make one of (\(CalibrationGuard.fewestDocuments), or --guard-data); the "
      + "certificate is applied to any document"
  }

  private static func fit(
    _ model: LanguageModel, prompts: [[TokenID]], modelDigest: String, documentsDigest: String
  ) throws -> ApplicabilityGuard {
    let bar = ProgressBar(total: prompts.count, what: "documents of the guard")
    Interrupt.watch()
    defer { bar.clear() }
    var profiles: [[Float]] = []
    for prompt in prompts {
      guard let profile = try model.promptProfile(prompt, shouldStop: { Interrupt.isRequested }) else {
        throw ExitCode(Interrupt.exitCode)
      }
      profiles.append(profile)
      bar.show(done: profiles.count)
    }
    let half = (profiles.count + 1) / 2
    return try ApplicabilityGuard(
      fitting: Array(profiles.prefix(half)), heldBack: Array(profiles.dropFirst(half)),
      modelDigest: modelDigest, documentsDigest: documentsDigest)
  }

  private static func runAtFullDepth(
    _ model: LanguageModel, prompts: [[TokenID]], options: [GenerationOptions]
  ) throws -> [[TokenID]] {
    let bar = ProgressBar(total: prompts.count, what: "outputs of the guard's documents")
    defer { bar.clear() }
    let batch = BatchDecoder(model: model, shouldStop: { Interrupt.isRequested })
    for (prompt, options) in zip(prompts, options) { batch.submit(prompt: prompt, options: options) }
    var outputs: [[TokenID]] = []
    while !batch.isIdle {
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      outputs += try batch.step().map(\.generation.tokenIDs)
      bar.show(done: outputs.count)
    }
    return outputs
  }

  /// SHA-256 of prompts and of the way the model computes.
  private static func digest(of prompts: [[TokenID]], model: LanguageModel) -> String {
    let lines = prompts.map { $0.map(String.init).joined(separator: " ") + "\n" }
    return FileDigest.sha256(text: model.computePath.rawValue + "\n" + lines.joined())
  }

  /// Reads the guard that a certificate names, from the file beside it, and the tripwire that stands in the certificate.
  ///
  /// - Returns: `nil` for what it does not name.
  /// - Throws: ``CommandError`` where the file is not there, `EarlyExitError` where it is another, `CheckpointError` where it is
  ///   damaged.
  static func load(
    _ path: String, for loaded: LoadedModel
  ) throws -> (applicability: ApplicabilityGuard?, tripwire: RepetitionTripwire?) {
    struct Policy: Decodable {
      var `guard`: ApplicabilityGuard.Reference?
      var tripwire: RepetitionTripwire?
    }
    guard let policy = try Certificate.read(path: path).subject.policy else { return (nil, nil) }
    let named = try JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(policy))
    return (try load(named.guard, beside: path, for: loaded), named.tripwire)
  }

  /// Reads a guard from the file beside a certificate.
  static func load(
    _ reference: ApplicabilityGuard.Reference?, beside path: String, for loaded: LoadedModel
  ) throws -> ApplicabilityGuard? {
    guard let reference else { return nil }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    let name = URL(fileURLWithPath: reference.file).lastPathComponent
    let file = folder.appendingPathComponent(name).path
    guard FileManager.default.fileExists(atPath: file) else {
      throw CommandError(
        "\(path): the certificate's guard is not there; it has to lie beside the certificate as \(name)")
    }
    return try ApplicabilityGuard(
      path: file, modelDigest: loaded.digest(),
      hiddenSize: loaded.model.decoder.configuration.hiddenSize, digest: reference.digest)
  }
}

/// What a guard found, in results.
struct GuardResult: Codable {
  var inside: Bool
  var pValue: Double

  init?(_ found: Applicability?) {
    guard let found else { return nil }
    (inside, pValue) = (found.isInside, found.pValue)
  }

  /// Said of a document that is outside.
  static func sentence(_ name: String, _ found: Applicability) -> String {
    "\(name) is unlike the documents that the certificate was made with (p = \(found.pValue.formatted(places: 3))): "
      + "decoded at full depth"
  }
}
