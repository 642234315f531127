import ArgumentParser
import Certification

extension CalibrationGuard {
  /// A guard, and how many of the documents made it, from the first on: they do not certify.
  typealias Made = (guard: PolicyGuard, documents: Int)

  /// Makes the guard of a calibration, or takes that of an earlier run on the same documents.
  ///
  /// - Parameters:
  ///   - stem: What the name of its file begins with.
  ///   - layer: The layer whose states it reads; `nil` for the last.
  ///   - check: Is told how many documents are left to certify, before the model is run.
  /// - Returns: `nil` where none is wanted or there are too few documents.
  /// - Throws: ``CommandError`` for more documents than there are; `ExitCode` after an interruption.
  func make(
    _ loaded: LoadedModel, records: [DocumentRecord], stem: String, layer: Int? = nil, maxTokens: Int?,
    check: (Int) throws -> Void
  ) throws -> Made? {
    guard !noGuard else { return nil }
    let path = stem + ".guard.safetensors"
    var sources = records
    if let data = guardData {
      sources = try DocumentFile.read(data)
    } else if guardDocuments == nil, records.count < Self.fewestDocuments {
      return nil
    }
    let subject = try loaded.subject()
    let usual = guardData == nil ? min(Self.mostDocuments, records.count / 3) : sources.count
    let count = guardDocuments ?? PolicyGuard.documentCount(path, for: subject) ?? usual
    guard count <= sources.count, guardData != nil || count < records.count else {
      throw CommandError(
        "the guard takes \(count) documents, and there are \(sources.count)"
          + (guardData == nil ? ", some of which have to certify" : ""))
    }
    try check(guardData == nil ? records.count - count : records.count)
    Interrupt.watch()
    let (reading, decoding) = (
      ProgressBar(total: count, what: "documents of the guard"),
      ProgressBar(total: count, what: "outputs of the guard's documents")
    )
    defer { decoding.clear() }
    let made = try PolicyGuard.make(
      subject, records: Array(sources.prefix(count)), path: path, layer: layer, maxTokens: maxTokens,
      shouldStop: { Interrupt.isRequested }
    ) { progress in
      switch progress {
      case .read(let done): reading.show(done: done)
      case .decoded(let done): decoding.show(done: done)
      }
    }
    guard let made else { throw ExitCode(Interrupt.exitCode) }
    return (made, guardData == nil ? count : 0)
  }

  /// Said where few documents made none, and none was refused.
  static func absence(_ count: Int) -> String {
    "no guard: \(count) documents are few to make one of (\(fewestDocuments), or --guard-data); the certificate is "
      + "applied to any document"
  }
}
