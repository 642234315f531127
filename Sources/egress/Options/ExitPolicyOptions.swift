import ArgumentParser
import Checkpoints
import EarlyExit
import FileFormats
import Generation

/// An exit policy but for its threshold: which layers, which measure, which heads, which cache.
struct ExitPolicyOptions: ParsableArguments {
  /// Layers separated by commas.
  struct LayerList: ExpressibleByArgument {
    let layers: [Int]

    init?(argument: String) {
      let layers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
      guard !layers.contains(nil) else { return nil }
      self.layers = layers.compactMap { $0 }
    }
  }

  @Option(
    help: ArgumentHelp(
      "How confidence is measured: softmax (probability of the best token minus that of the second), saturation "
        + "(cosine of neighbouring hidden states) or classifier (needs exit heads). (default: softmax)",
      valueName: "measure"))
  var confidence: UsualMeasure?

  @Option(
    help: ArgumentHelp(
      "Keys and values of skipped layers: defer completes them exactly when a later token goes deeper, propagate "
        + "projects the token's last hidden state. (default: defer)", valueName: "policy"))
  var exitCache: ExitCachePolicy?

  @Option(
    help: ArgumentHelp(
      "Layers after which a token may leave, such as 12,18,24. (default: those of --exit-heads, or every layer)",
      valueName: "layers"))
  var exitLayers: LayerList?

  @Option(
    parsing: .unconditional, help: ArgumentHelp("No token leaves before this layer.", valueName: "layer"))
  var minExitLayer: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Let the threshold fall along the output, as 0.9 threshold + 0.1 exp(-decay * token / max-tokens); 4 is usual.",
      valueName: "decay"))
  var decay: Double?

  @Option(
    help: ArgumentHelp(
      "Exit heads and classifiers that fit-exits made for this model; none for the model's own head. "
        + "(default: those that come with the program, for a model given by name)", valueName: "file"))
  var exitHeads: String?

  @Option(
    help: ArgumentHelp(
      "Take measure, layers and cache policy from a plan that plan-exits wrote, in place of the options.",
      valueName: "plan.json"))
  var exitPlan: String?

  func validate() throws {
    if exitPlan != nil,
      let other = given.first(where: { !["exit-plan", "exit-heads", "decay"].contains($0) })
    {
      throw ValidationError("--\(other) is fixed by --exit-plan.")
    }
    _ = try policy(threshold: 0, heads: nil)
  }

  /// The options given, by name.
  var given: [String] {
    let all: [(String, Bool)] = [
      ("confidence", confidence != nil), ("exit-cache", exitCache != nil),
      ("exit-layers", exitLayers != nil), ("min-exit-layer", minExitLayer != nil), ("decay", decay != nil),
      ("exit-heads", exitHeads != nil), ("exit-plan", exitPlan != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// The file of exit heads: the one given, or the one that is shipped for a model given by name; `nil` for none.
  func headsPath(_ loaded: LoadedModel) throws -> String? {
    if let exitHeads { return exitHeads == "none" ? nil : exitHeads }
    return try loaded.entry.flatMap { try ShippedFiles.heads(.exits, of: $0) }
  }

  /// SHA-256 of that file.
  func headsDigest(_ loaded: LoadedModel) throws -> String? {
    try headsPath(loaded).map { try FileDigest.sha256(path: $0) }
  }

  /// - Throws: ``EarlyExitError/exitHeads(_:)`` for heads of another model; a usage error when a classifier is asked
  ///   for and there is none.
  func loadHeads(_ loaded: LoadedModel) throws -> ExitHeads? {
    let path = try headsPath(loaded)
    let plan = try plan()
    if path == nil, try measure(plan) == .classifier {
      throw ValidationError("--confidence classifier needs --exit-heads.")
    }
    if let plan, let exitPlan {
      guard try plan.modelDigest == loaded.digest() else {
        throw CommandError("\(exitPlan) is a plan for another model")
      }
      guard try plan.headsDigest == headsDigest(loaded) else {
        throw CommandError("\(exitPlan) is a plan for other exit heads")
      }
    }
    return try path.map { try ExitHeads(path: $0, modelDigest: loaded.digest()) }
  }

  private func plan() throws -> ExitPlan? {
    try exitPlan.map { try ExitPlan.read(TextInput.bytes(path: $0).bytes, name: $0) }
  }

  private func measure(_ plan: ExitPlan?) throws -> UsualMeasure {
    guard let plan else { return confidence ?? .softmax }
    guard let measure = UsualMeasure(rawValue: plan.measure) else {
      throw CommandError("the exit plan's measure \(plan.measure) is not known")
    }
    return measure
  }

  /// - Parameter heads: `nil` before they are known, when only the options themselves are checked.
  func policy(threshold: Double, heads: ExitHeads?) throws -> ThresholdPolicy {
    let plan = heads == nil ? nil : try plan()
    // Nothing pays: full depth, whatever the threshold.
    if let plan, plan.layers.isEmpty { return try ThresholdPolicy(threshold: 1) }
    do {
      return try ThresholdPolicy(
        threshold: threshold, layers: plan?.layers ?? exitLayers?.layers ?? heads?.layers,
        minimumLayer: minExitLayer ?? 1,
        decay: decay)
    } catch {
      throw ValidationError("--\(error).")
    }
  }

  func strategy(_ policy: ThresholdPolicy, heads: ExitHeads?, model: LanguageModel) throws -> ExitStrategy {
    let plan = try plan()
    let strategy = ExitStrategy(
      policy: policy, measure: try measure(plan).make(heads: heads), heads: heads,
      cachePolicy: plan?.cache ?? exitCache ?? .defer)
    _ = try strategy.validatedLayers(for: model.decoder)
    return strategy
  }
}

extension ExitCachePolicy: ExpressibleByArgument {}
extension UsualMeasure: ExpressibleByArgument {}
