import ArgumentParser
import SpeculativeDecoding

/// The small model or the draft head whose rollback threshold is calibrated.
struct CalibrationDraft: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Calibrate the rollback threshold of what drafts for the model: a small model, by name or path, or a draft "
        + "head, head or a .safetensors file.", valueName: "draft"))
  var draft: String?

  @Option(
    parsing: .unconditional,
    help: """
      The draft stops before a token less probable than this. Of several, as 0.3,0.6, the cheapest certified is \
      chosen, with the failure probability divided among them. (default: 0.6; 0.1 with a draft head)
      """)
  var fallback: NumberList?

  @Option(
    parsing: .unconditional, help: "Tokens to draft at a time, at most. (default: 10; 3 with a draft head)")
  var draftLength: Int?

  func validate() throws {
    if draft == nil, let name = given.first { throw ValidationError("--\(name) needs a --draft.") }
    let values = fallback?.values ?? []
    guard Set(values).count == values.count, fallback == nil || !values.isEmpty else {
      throw ValidationError("--fallback must hold thresholds that differ.")
    }
    try Self.validate(fallback: nil, draftLength: draftLength)
    for value in values { try Self.validate(fallback: value, draftLength: nil) }
  }

  static func validate(fallback: Double?, draftLength: Int?) throws {
    if let fallback, !(0...1).contains(fallback) {
      throw ValidationError("--fallback must be in 0...1, but is \(fallback).")
    }
    if let draftLength, !SpeculativeSession.draftLengths.contains(draftLength) {
      throw ValidationError(
        "--draft-length must be in \(SpeculativeSession.draftLengths), but is \(draftLength).")
    }
  }

  /// The options given, by name.
  var given: [String] {
    let all = [
      ("draft", draft != nil), ("fallback", fallback != nil), ("draft-length", draftLength != nil),
    ]
    return all.filter(\.1).map(\.0)
  }
}
