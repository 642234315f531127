import ArgumentParser

/// How the guard of a calibration is made, which tells documents unlike those that certify.
struct CalibrationGuard: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: """
      The first documents make a guard, so many of them, and the others certify; documents that the guard finds unlike \
      them are decoded at full depth. (default: a third, at most 200; none of fewer than 60)
      """)
  var guardDocuments: Int?

  @Option(
    help: ArgumentHelp(
      "Make the guard of these documents instead, which need no references, so that all of --data certify.",
      valueName: "docs.jsonl"))
  var guardData: String?

  @Flag(help: "Make no guard: the certificate is applied to any document.")
  var noGuard = false

  /// The fewest documents of which some make a guard without being asked.
  static let fewestDocuments = 60
  /// The most that do.
  static let mostDocuments = 200

  func validate() throws {
    if noGuard, guardDocuments != nil || guardData != nil {
      throw ValidationError("Give either --no-guard, or --guard-documents or --guard-data.")
    }
    if let guardDocuments, guardDocuments < 1 {
      throw ValidationError("--guard-documents must be at least 1, but is \(guardDocuments).")
    }
  }

  /// The options that have no meaning without --data, where they are given.
  var given: [String] {
    let all = [
      ("guard-documents", guardDocuments != nil), ("guard-data", guardData != nil), ("no-guard", noGuard),
    ]
    return all.filter(\.1).map(\.0)
  }
}
