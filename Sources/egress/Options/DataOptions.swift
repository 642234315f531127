import ArgumentParser
import Certification

/// The documents that a fit, a plan or an estimate is made from.
struct DataOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents; a question makes its document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  /// - Parameter limit: The most documents, from the first on; `nil` for all.
  func read(limit: Int? = nil) throws -> [DocumentRecord] {
    Array(try DocumentFile.read(data).prefix(limit ?? .max))
  }
}
