import Foundation
import Generation

/// What of an adaptation several machines can do: decoding the certifying documents at every threshold, which takes
/// most of its time. Everything before it is made once, by ``prepare()``, and the folder goes to all machines.
extension AdaptationRun {
  /// Makes heads, plan, guards and prices, which all machines have to have alike.
  ///
  /// - Returns: `false` where it was told to stop.
  public func prepare() throws -> Bool { try prepared() != nil }

  /// Decodes a shard's documents at every threshold, into files beside those of the whole. They are put together by
  /// ``ShardSet/runs(for:prices:)``, and ``run()`` goes on from there.
  ///
  /// - Parameter begun: What the shard is of, but for what the run itself knows.
  /// - Returns: `false` where it was told to stop.
  /// - Throws: ``CertificationError``, whose kind is `.unfinished` where the folder is not prepared.
  public func run(_ begun: ShardDescription) throws -> Bool {
    try checkPrepared()
    guard let (_, planned) = try prepared() else { return false }
    for one in planned {
      let part = one.calibrator.restricted(to: begun.shard)
      var description = begun.completed(
        modelDigest: subject.modelDigest, skipped: 0, documents: certifying.count, lines: part.records.count)
      description.output = Adaptation.runs(of: one.way, in: folder)
      let path = Adaptation.runs(of: one.way, shard: begun.shard, in: folder)
      let isDone = try ShardFile(path: path).isFinished(as: description) { subject.modelDigest }
      guard try isDone || run(part, one, shard: description) != nil else { return false }
    }
    return true
  }

  /// A shard that made its own heads, or measured its own prices, would go together with no other.
  private func checkPrepared() throws {
    var needed = [Adaptation.File.heads, .plan, .promptPlan, .promptPrices].map { $0.path(in: folder) }
    let depths = PromptDepthSweep.usualDepths(layerCount: subject.model.decoder.configuration.layerCount)
    if !depths.isEmpty { needed.append(Adaptation.guardPath(of: .prompts, in: folder)) }
    if let missing = needed.first(where: { !FileManager.default.fileExists(atPath: $0) }) {
      throw CertificationError(
        .unfinished,
        "\(missing) is not there: prepare the folder on one machine, with adapt --prepare, and give it to all"
      )
    }
  }
}
