import Generation

/// How documents are decoded, apart from the exits or drafts that are calibrated. The losses of a calibration were
/// measured under one regime, and the certificate holds for this one.
///
/// Greedy decoding of whole documents is what a calibration runs. Under another regime the outputs are others, and
/// nothing is known about their loss.
public struct DecodingRegime: Codable, Sendable, Equatable {
  /// The tasks among the documents, sorted: `answer`, `summarize`; of other outputs, `generate`.
  public var tasks: [String]
  /// `greedy` or `random`.
  public var sampling: String
  /// The most tokens of an output, or `nil` for what is usual for the task.
  public var maxTokens: Int?
  /// Tokens that prompt and output may have together, or `nil` for as many as the model can.
  public var context: Int?
  /// Texts that end an output.
  public var stopStrings: [String]
  /// See `GenerationOptions.noRepeatNgram`.
  public var noRepeatNgram: Int?
  /// See `GenerationOptions.isExtractive`; `nil`, in a certificate `false`, for what is usual for the model.
  public var isExtractive: Bool?
  /// The length that summaries were asked for, such as `2 sentences`; `nil` for the model's usual one.
  public var summaryLength: String?
  /// What summaries keep to beside these settings: ``currentSummaryRules`` of the program that calibrated.
  public var summaryRules: Int

  /// 3: a summary ends in a sentence that says itself again. 2: a reader's does not end before its number of sentences,
  /// and ends before one that says again what it has said. 1, where a certificate has no number: it ended where the
  /// model ended it.
  public static let currentSummaryRules = 3

  enum CodingKeys: String, CodingKey {
    case tasks, sampling, context
    case maxTokens = "max_tokens"
    case stopStrings = "stop"
    case noRepeatNgram = "no_repeat_ngram"
    case isExtractive = "extractive"
    case summaryLength = "summary_length"
    case summaryRules = "summary_rules"
  }

  /// - Parameters:
  ///   - tasks: What is asked about the documents; none stands for outputs that are of no document.
  ///   - options: How outputs are decoded.
  ///   - maxTokens: The limit where one was given; that of `options` may be the usual one.
  public init(tasks: some Sequence<DocumentTask>, options: GenerationOptions, maxTokens: Int?) {
    var names: Set<String> = []
    var lengths: Set<String?> = []
    var usual: Set<Int> = []
    for task in tasks {
      usual.insert(task.usualMaxTokens)
      switch task {
      case .answer: names.insert("answer")
      case .summary(let request):
        names.insert("summarize")
        lengths.insert(request.length?.description)
      }
    }
    self.tasks = names.isEmpty ? ["generate"] : names.sorted()
    let way = options.sampling == .greedy ? "greedy" : "random"
    sampling = options.adjustments.isEmpty ? way : way + " with penalties or biases"
    // The usual number, given, is the usual number.
    self.maxTokens = usual.count == 1 && maxTokens == usual.first ? nil : maxTokens
    context = options.context
    stopStrings = options.stopStrings
    noRepeatNgram = options.noRepeatNgram
    isExtractive = options.isExtractive
    summaryLength = lengths.count == 1 ? lengths.first ?? nil : nil
    summaryRules = Self.currentSummaryRules
  }

  /// Reads a regime as a certificate has it.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    tasks = try fields.decode([String].self, forKey: .tasks)
    sampling = try fields.decode(String.self, forKey: .sampling)
    maxTokens = try fields.decodeIfPresent(Int.self, forKey: .maxTokens)
    context = try fields.decodeIfPresent(Int.self, forKey: .context)
    stopStrings = try fields.decode([String].self, forKey: .stopStrings)
    noRepeatNgram = try fields.decodeIfPresent(Int.self, forKey: .noRepeatNgram)
    // Calibrations decode as is usual, so that a certificate never says more than that.
    isExtractive = try fields.decode(Bool.self, forKey: .isExtractive) ? true : nil
    summaryLength = try fields.decodeIfPresent(String.self, forKey: .summaryLength)
    summaryRules = try fields.decodeIfPresent(Int.self, forKey: .summaryRules) ?? 1
  }

  /// Writes it as a certificate has it. The first rule has no number: the digests of certificates from then hold.
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(tasks, forKey: .tasks)
    try fields.encode(sampling, forKey: .sampling)
    try fields.encodeIfPresent(maxTokens, forKey: .maxTokens)
    try fields.encodeIfPresent(context, forKey: .context)
    try fields.encode(stopStrings, forKey: .stopStrings)
    try fields.encodeIfPresent(noRepeatNgram, forKey: .noRepeatNgram)
    try fields.encode(isExtractive ?? false, forKey: .isExtractive)
    try fields.encodeIfPresent(summaryLength, forKey: .summaryLength)
    try fields.encodeIfPresent(summaryRules == 1 ? nil : summaryRules, forKey: .summaryRules)
  }

  /// What of another regime this one does not cover, or `nil` where it covers all of it.
  ///
  /// The other's tasks have to be among these; all else has to be equal.
  public func firstDifference(to other: DecodingRegime) -> (
    field: String, expected: String, found: String
  )? {
    func text(_ value: Int?, _ none: String) -> String { value.map(String.init) ?? none }
    if !Set(other.tasks).isSubset(of: tasks) {
      return ("task", tasks.joined(separator: " and "), other.tasks.joined(separator: " and "))
    }
    func usual(_ value: Bool?) -> String { value.map { "\($0)" } ?? "the usual" }
    let fields: [(String, String, String)] = [
      ("sampling", sampling, other.sampling),
      ("max-tokens", text(maxTokens, "the usual"), text(other.maxTokens, "the usual")),
      ("context", text(context, "the model's"), text(other.context, "the model's")),
      ("stop", "\(stopStrings)", "\(other.stopStrings)"),
      ("no-repeat-ngram", text(noRepeatNgram, "none"), text(other.noRepeatNgram, "none")),
      ("extractive", usual(isExtractive), usual(other.isExtractive)),
    ]
    if let found = fields.first(where: { $0.1 != $0.2 }) { return found }
    guard other.tasks.contains("summarize") else { return nil }
    guard summaryRules == other.summaryRules else {
      return ("the rule by which summaries end", "number \(summaryRules)", "number \(other.summaryRules)")
    }
    guard summaryLength != other.summaryLength else { return nil }
    return ("length", summaryLength ?? "the usual", other.summaryLength ?? "the usual")
  }
}

extension SummaryLength: CustomStringConvertible {
  /// The length in words, such as `2 sentences`.
  public var description: String {
    switch self {
    case .sentences(1): "1 sentence"
    case .sentences(let count): "\(count) sentences"
    case .words(let count): "\(count) words"
    }
  }
}
