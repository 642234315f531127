import ArgumentParser
import Checkpoints
import EarlyExit
import RiskControl

/// Where and when tokens leave the layers early, and what is shown of it.
struct ExitOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Let a token leave the layers early where the confidence is at least this, in 0...1; 1 is full depth.",
      valueName: "threshold"))
  var exitThreshold: Double?

  @Option(
    help: ArgumentHelp(
      "Take the threshold from a certificate that calibrate wrote; needs --exit-policy.",
      valueName: "cert.json"))
  var certificate: String?

  @Option(
    help: ArgumentHelp("The policy that the certificate is for, as sweep wrote it.", valueName: "policy.json")
  )
  var exitPolicy: String?

  @OptionGroup var policy: ExitPolicyOptions

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
    if let exitThreshold {
      _ = try policy.policy(threshold: exitThreshold, heads: nil)
      guard certificate == nil else {
        throw ValidationError("Give either --exit-threshold or --certificate.")
      }
    }
    guard (certificate == nil) == (exitPolicy == nil) else {
      throw ValidationError("--certificate and --exit-policy belong together.")
    }
    if certificate != nil, let name = policy.given.first(where: { $0 != "exit-heads" }) {
      throw ValidationError("--\(name) is fixed by --exit-policy.")
    }
    if exitThreshold == nil, certificate == nil {
      // Heads alone may be those of a drafter.
      if let name = policy.given.first(where: { $0 != "exit-heads" }) {
        throw ValidationError("--\(name) has no effect without --exit-threshold.")
      }
      if showExits { throw ValidationError("--show-exits has no effect without --exit-threshold.") }
    }
  }

  /// What decoding is told; `nil` for plain decoding.
  ///
  /// - Throws: ``EarlyExitError`` for layers that the model lacks and heads of another model; ``CommandError`` for a
  ///   certificate that is not for this model, policy, head and template.
  func makeStrategy(_ loaded: LoadedModel) throws -> ExitStrategy? {
    if let certificate, let exitPolicy { return try strategy(certificate, policyPath: exitPolicy, loaded) }
    guard let exitThreshold else { return nil }
    let heads = try policy.loadHeads(loaded)
    return try policy.strategy(
      policy.policy(threshold: exitThreshold, heads: heads), heads: heads, model: loaded.model)
  }

  private func strategy(_ path: String, policyPath: String, _ loaded: LoadedModel) throws -> ExitStrategy {
    let certificate = try Certificate.read(path: path)
    let (bytes, _) = try TextInput.bytes(path: policyPath)
    let description = try ExitPolicyDescription.read(bytes, name: policyPath)
    func demand(_ what: String, _ expected: String?, _ found: String?) throws {
      guard expected == found else {
        throw CommandError(
          "\(path): the certificate is for another \(what): SHA-256 \(expected ?? "none"), found \(found ?? "none")"
        )
      }
    }
    let model = try Checkpoints.FileDigest.sha256(model: loaded.path)
    try demand(
      "exit policy", certificate.subject.policyDigest, try Checkpoints.FileDigest.sha256(path: policyPath))
    try demand("model", description.modelDigest, model)
    if let named = certificate.subject.modelDigest { try demand("model", named, model) }
    try demand(
      "exit head", description.headsDigest,
      try policy.exitHeads.map { try Checkpoints.FileDigest.sha256(path: $0) })
    try demand(
      "prompt template", description.templateDigest,
      try ExitPolicyDescription.templateDigest(of: loaded.model))
    guard let threshold = certificate.threshold else {
      throw CommandError("\(path) certifies nothing: \(certificate.reason ?? certificate.outcome)")
    }
    guard let measure = ExitPolicyOptions.Measure(rawValue: description.measure) else {
      throw CommandError("\(policyPath): the measure \(description.measure) is not known")
    }
    let heads = try policy.loadHeads(loaded)
    let strategy = ExitStrategy(
      policy: try description.policy(threshold: threshold),
      measure: ExitPolicyOptions.measure(measure, heads),
      heads: heads, cachePolicy: description.cache, groupLimit: description.groupLimit)
    _ = try strategy.validatedLayers(for: loaded.model.decoder)
    Console.note(certificate.guarantee)
    return strategy
  }
}
