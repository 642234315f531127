import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import Transformers

/// Where and when tokens leave the layers early, and what is shown of it.
struct ExitOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Let a token leave the layers early where the confidence is at least this, in 0...1; 1 is full depth.",
      valueName: "threshold"))
  var exitThreshold: Double?

  @Option(
    help: ArgumentHelp(
      "Take threshold, measure, layers, cache and prompt depth from a certificate that calibrate wrote; --exit-heads "
        + "goes with it where it is of such heads.", valueName: "cert.json"))
  var certificate: String?

  @OptionGroup var policy: ExitPolicyOptions

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      Let the prompt's tokens but the last 32 stop after this layer; keys and values above are projected from their states. \
      It reads prompts faster and changes the output.
      """, valueName: "layer"))
  var promptDepth: Int?

  @Flag(help: "Decode at full depth, whatever egress adapt has found for the model.")
  var fullDepth = false

  @Option(
    help: ArgumentHelp(
      "Write a line of JSON for each token: layer, confidences, reason, bytes, seconds; when drafting, who wrote it.",
      valueName: "t.jsonl"))
  var trace: String?

  @Flag(help: "Colour the text by exit layer, on a terminal.")
  var showExits = false

  /// Whether tokens may leave early; the options of the policy come with a threshold or a certificate only.
  var isGiven: Bool { exitThreshold != nil || certificate != nil }

  func validate() throws {
    if fullDepth, isGiven || promptDepth != nil {
      throw ValidationError(
        "--full-depth does not go with --exit-threshold, --certificate or --prompt-depth.")
    }
    if let exitThreshold {
      _ = try policy.policy(threshold: exitThreshold, heads: nil)
      guard certificate == nil else {
        throw ValidationError("Give either --exit-threshold or --certificate.")
      }
    }
    if certificate != nil, promptDepth != nil {
      throw ValidationError("--prompt-depth is fixed by --certificate.")
    }
    if let promptDepth, promptDepth < 1 {
      throw ValidationError("--prompt-depth must be at least 1, but is \(promptDepth).")
    }
    if certificate != nil, let name = policy.given.first(where: { $0 != "exit-heads" }) {
      throw ValidationError("--\(name) is fixed by --certificate.")
    }
    if exitThreshold == nil, certificate == nil {
      // Heads alone may be those of a drafter.
      if let name = policy.given.first(where: { $0 != "exit-heads" }) {
        throw ValidationError("--\(name) has no effect without --exit-threshold.")
      }
      if showExits { throw ValidationError("--show-exits has no effect without --exit-threshold.") }
    }
  }

  /// The options that decide where tokens leave, by name; files are named by their hashes.
  func settings(_ loaded: LoadedModel) throws -> [String: String] {
    func digest(_ path: String?) throws -> String? {
      try path.map { try FileDigest.sha256(path: $0) }
    }
    let all: [String: String?] = try [
      "exit-threshold": exitThreshold.map { "\($0)" }, "certificate": digest(certificate),
      "exit-plan": digest(policy.exitPlan), "confidence": policy.confidence?.rawValue,
      "exit-cache": policy.exitCache?.rawValue,
      "exit-layers": policy.exitLayers.map { "\($0.layers)" },
      "min-exit-layer": policy.minExitLayer.map { "\($0)" }, "decay": policy.decay.map { "\($0)" },
      "prompt-depth": promptDepth.map { "\($0)" },
      "exit-heads": isGiven ? policy.headsDigest(loaded) : nil,
    ]
    return all.compactMapValues { $0 }
  }

  /// What decoding is told; `nil` for plain decoding.
  ///
  /// - Throws: ``EarlyExitError`` for layers that the model lacks and heads of another model; ``CertificationError``
  ///   for a certificate that is not for this model, policy, head and template.
  func makeStrategy(_ loaded: LoadedModel, regime: DecodingRegime) throws -> ExitStrategy? {
    if let certificate { return try strategy(certificate, loaded, regime: regime) }
    guard let exitThreshold else { return nil }
    let heads = try policy.loadHeads(loaded)
    return try policy.strategy(
      policy.policy(threshold: exitThreshold, heads: heads), heads: heads, model: loaded.model)
  }

  /// - Throws: `ValidationError` where a certificate is to hold for prompts that it was not made with.
  func validate(raw: Bool) throws {
    if raw, certificate != nil {
      throw ValidationError("--certificate is for prompts in the model's template; leave out --raw.")
    }
  }

  /// What is said of a document that a certificate does not hold for.
  static let notCovered =
    "not covered by the certificate, which holds for whole documents: decoded at full depth"

  /// Sets how deep prompts are read, which documents the certificate is applied to, and what brings outputs back to
  /// full depth.
  func protect(_ options: inout GenerationOptions, _ loaded: LoadedModel) throws {
    options.promptDepth = promptDepth
    guard let certificate else { return }
    (options.applicability, options.tripwire, options.promptDepth) = try CertifiedPolicy.protection(
      certificate, for: loaded.subject())
  }

  private func strategy(_ path: String, _ loaded: LoadedModel, regime: DecodingRegime) throws -> ExitStrategy?
  {
    let certified = try CertifiedPolicy.load(path, for: loaded.subject(policy), regime: regime)
    let certificate = certified.certificate
    Console.note(certificate.statement)
    // Where the last layer is all that is certified, that has been said.
    let isLast = certificate.threshold == Double(loaded.model.decoder.configuration.layerCount)
    if certificate.isOfPrompts, certified.promptDepth != nil || isLast { return nil }
    guard case .exits(let strategy) = certified.decoding else {
      let costs = (
        (certificate.cost ?? 0).formatted(places: 2), (certificate.safestCost ?? 0).formatted(places: 2)
      )
      Console.note(
        certificate.isOfPrompts
          ? "a document takes \(costs.0) ms at this layer and \(costs.1) ms at full depth, so prompts pass all layers"
          : certificate.promptLayer == nil
            ? "leaving early at this threshold takes \(costs.0) ms a token and full depth \(costs.1), "
              + "so tokens pass all layers"
            : "a document takes \(costs.0) ms at this threshold and \(costs.1) ms at full depth, "
              + "so all tokens pass all layers")
      return nil
    }
    return strategy
  }
}
