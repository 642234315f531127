import ArgumentParser
import Certification
import FileFormats
import Foundation
import Generation

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Put the shards of a batch, a calibration or an evaluation together.",
    discussion: """
      Results come out in the order of the documents, byte for byte as one machine writes them. Of a calibration, the \
      table of losses and the certificate are made, by the options that its shards were given; no model is needed. The \
      guard that the shards made lies beside them. Of an evaluation, the result is printed; of hidden states, the files \
      are written anew, from the folders beside the shards' lists; of fit-exits, the outputs are put together, and \
      fit-exits without --shard then fits on them.

      Shards that are missing or not whole, that are there twice, or that are of another model, of other options or of \
      other documents are refused. A pattern may be given in quotes, so that no shell is needed.

      EXAMPLES
        egress merge summaries.*-of-8.jsonl --output summaries.jsonl
        egress merge 'docs.*-of-8.runs.jsonl'

      Exit status: 0 done; 2 nothing and 3 only the safest threshold is certified; 65 the shards do not go together; \
      75 some are missing or not whole yet, or a file cannot be written.
      """)

  @Argument(help: "The files of all shards, in any order, or a pattern of them.")
  var shards: [String]

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Where the whole goes; of a calibration, what the names of its files begin with. (default: as the "
        + "shards were told)",
      valueName: "name"))
  var output: String?

  @Option(help: ArgumentHelp("The documents, where they lie elsewhere by now.", valueName: "docs.jsonl"))
  var data: String?

  @Flag(help: "Replace what is there under the output's name.")
  var force = false

  @Option(help: "Of an evaluation: text, or json: one object on one line.")
  var format: OutputOptions.Format?

  func run() throws {
    try ShardFailure.classifying {
      let set = try ShardSet(paths: shards.flatMap(Self.expanded))
      if format != nil, set.description.command != EvaluateCommand._commandName {
        throw ValidationError("--format is for shards of an evaluation.")
      }
      switch set.description.command {
      case Calibrate._commandName: try mergeCalibration(set)
      case EvaluateCommand._commandName: try mergeEvaluation(set)
      case ExportStatesCommand._commandName: try mergeStates(set)
      default: try mergeBatch(set)
      }
    }
  }

  private func mergeCalibration(_ set: ShardSet) throws {
    // The first shard's options are those of all, but for where things lie.
    var calibrate = try Calibrate.parse(set.description.arguments)
    calibrate.force = calibrate.force || force
    calibrate.documents.output = output ?? set.description.output
    calibrate.documents.data = data ?? set.description.data
    try calibrate.merge(set, replacing: force)
  }

  private func mergeEvaluation(_ set: ShardSet) throws {
    guard output == nil, !force else {
      throw ValidationError("an evaluation is printed; leave --output and --force out.")
    }
    let result = try set.evaluation(of: set.documents(path: data ?? set.description.data))
    try TextOutput.standard.write(format == .json ? try JSONOutput.line(result) + "\n" : result.text)
  }

  private func mergeStates(_ set: ShardSet) throws {
    let path = data ?? set.description.data
    try set.checkDocuments(path: path)
    let texts = try StateText.read(path)
    let folder = output ?? StateFiles.folder(of: set.description.output)
    var merge = StateMerge()
    try merge.write(set, texts, to: folder, replacing: force)
    Console.note("\(folder) has \(texts.count) texts of \(set.description.shard.count) shards")
  }

  private func mergeBatch(_ set: ShardSet) throws {
    let path = output ?? set.description.output
    let records = try set.documents(path: data ?? set.description.data)
    try ShardSet.write(set.lines(for: records), to: path, replacing: force)
    Console.note("\(path) has \(records.count) documents of \(set.description.shard.count) shards")
  }

  /// The files that a pattern stands for; a name without a star is itself.
  private static func expanded(_ pattern: String) throws -> [String] {
    guard pattern.contains("*"), !FileManager.default.fileExists(atPath: pattern) else { return [pattern] }
    var found = glob_t()
    defer { globfree(&found) }
    guard glob(pattern, 0, nil, &found) == 0 else {
      throw CertificationError(.unfinished, "no file has a name like \(pattern)")
    }
    return (0..<Int(found.gl_pathc)).compactMap { found.gl_pathv[$0].map { String(cString: $0) } }
  }
}

extension Calibrate {
  /// Makes of all shards what the calibration on one machine makes.
  func merge(_ set: ShardSet, replacing isForced: Bool) throws {
    guard let data = documents.data, let facts = set.description.decoder else {
      throw CommandError("the shards are of a calibration whose options are not known")
    }
    let settings = try rule.settings(isGrowing: true)
    let (metric, risk) = try quality()
    let calibrator = try Calibrator(set, metric: metric, risk: risk, documentsPath: data)
    let stem = documents.stem
    let files = try certificateFiles(
      settings, subjects: [calibrator.subject()], sampleCount: calibrator.records.count)
    try placeGuard(calibrator.sweep.settings.policy, from: set.folder, stem: stem)
    let path = stem + ".runs.jsonl"
    try ShardSet.write(set.runs(for: calibrator.records), to: path, replacing: isForced)
    guard let lines = try calibrator.complete(calibrator.openRuns(path)) else {
      throw CommandError("\(path) does not have every document")
    }
    try certify(
      [Candidate(name: "shards", stem: stem, calibrator: calibrator)], outputs: [lines], settings: settings,
      facts: facts, files: files)
  }

  /// Sees to it that the guard lies beside the certificate, under the name that the certificate knows.
  private func placeGuard(_ policy: PolicyDescription, from folder: String, stem: String) throws {
    guard let applicability = policy.applicability else { return }
    let path = stem + ".guard.safetensors"
    guard (path as NSString).lastPathComponent == applicability.file else {
      throw CommandError(
        "the certificate's guard is called \(applicability.file); give an --output that goes with it, in "
          + "whatever folder"
      )
    }
    let manager = FileManager.default
    let beside = (folder as NSString).appendingPathComponent(applicability.file)
    if !manager.fileExists(atPath: path), manager.fileExists(atPath: beside) {
      try manager.copyItem(atPath: beside, toPath: path)
    }
    guard manager.fileExists(atPath: path) else {
      throw CertificationError(.unfinished, "\(path), which the shards were made with, is not there")
    }
    guard try FileDigest.sha256(path: path) == applicability.digest else {
      throw CommandError("\(path) is not the guard that the shards were made with")
    }
  }
}
