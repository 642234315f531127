import ArgumentParser
import Certification
import FileFormats
import Foundation

/// Which part of the documents this machine works on.
struct ShardOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Work on this part of the documents only, such as 3/8, or auto for what a Slurm array or an Indexed Job says; \
      egress merge puts the parts together. Each goes to a file of its own, as out.3-of-8.jsonl, and goes on where it \
      was interrupted.
      """, valueName: "k/n"))
  var shard: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "With --shard auto, how many shards there are; array tasks are then numbered from 1. (default: what Slurm says)",
      valueName: "n"))
  var shards: Int?

  func validate() throws {
    if shards != nil, shard != "auto" { throw ValidationError("--shards goes with --shard auto.") }
    _ = try chosen()
  }

  /// The shard, or `nil` for all documents.
  func chosen() throws -> Shard? {
    guard let shard else { return nil }
    do {
      return shard == "auto"
        ? try Shard.automatic(ProcessInfo.processInfo.environment, count: shards) : try Shard(shard)
    } catch {
      throw ValidationError("--shard: \(error).")
    }
  }

  /// A shard goes from files to files.
  func validate(data: String) throws {
    guard shard == nil || data != "-" else { throw ValidationError("--shard needs --data, a file.") }
  }

  /// What the file of a shard is to be of, but for the model's digest; `nil`, and said, where an earlier run has
  /// finished it. That is known before the model is loaded.
  static func begun(
    _ shard: Shard, command: String, models: ModelOptions, data: String, output: String, skipped: Int = 0,
    documents: Int, lines: Int
  ) throws -> ShardDescription? {
    let description = ShardDescription(
      shard, command: command, arguments: arguments, data: data,
      dataDigest: try FileDigest.sha256(path: data), modelDigest: "", output: output, skipped: skipped,
      documents: documents, lines: lines)
    let isDone = try isDone(description, path: shard.path(for: output)) {
      try ModelOptions.digest(of: models.model, adapter: models.adapter)
    }
    return isDone ? nil : description
  }

  /// Whether an earlier run has finished a shard's file, which is then said.
  static func isDone(
    _ description: ShardDescription, path: String, modelDigest: () throws -> String
  ) throws -> Bool {
    let isDone = try ShardFile(path: path).isFinished(as: description, modelDigest: modelDigest)
    if isDone { Console.note("\(path) is done") }
    return isDone
  }

  /// What the command was given, but for what may differ from shard to shard.
  static var arguments: [String] {
    ShardDescription.without(
      ["--shard", "--shards", "--threads", "--batch", "--format"],
      in: Array(CommandLine.arguments.dropFirst(2)))
  }
}
