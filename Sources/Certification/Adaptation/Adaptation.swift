import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding

/// What makes one model faster on documents like those that it was adapted to: a folder beside the model, with a
/// certificate, its guard, exit heads where tokens leave early, and a description of what pays.
///
/// ```swift
/// let folder = Adaptation.folder(of: "model.gguf")
/// if let adaptation = try Adaptation.read(folder: folder), adaptation.way == .exits {
///   let subject = try DecodingSubject(path: "model.gguf", heads: Adaptation.File.heads.path(in: folder))
///   let policy = try CertifiedPolicy.load(
///     Adaptation.certificate(of: .exits, in: folder), for: subject, regime: adaptation.regime)
///   for try await step in subject.model.summarize(text, strategy: policy) { print(step.text) }
/// }
/// ```
public struct Adaptation: Codable, Sendable, Equatable {
  /// The version of the format.
  public static let currentVersion = 1

  /// What of the model's work is spared.
  public enum Way: String, Codable, Sendable, CaseIterable {
    /// Tokens leave the layers early, as a certificate says.
    case exits
    /// Prompts stop after a layer, as a certificate says.
    case prompts
    /// Prompts stop after a layer and tokens leave the layers early, as one certificate says.
    case both
    /// Nothing that changes an output pays.
    case fullDepth = "full-depth"

    /// Those that change outputs, and divide δ.
    public static let certifiable: [Way] = [.exits, .prompts, .both]

    /// Whether the exit heads belong to it.
    public var leavesEarly: Bool { self == .exits || self == .both }
  }

  /// Who drafts tokens that change no output.
  public enum Drafts: Sendable, CaseIterable {
    /// Nobody.
    case none
    /// Prompt look-up.
    case lookup
    /// Prompt look-up and a draft head, whichever pays at the moment.
    case head

    /// How it decodes at full depth; `nil` where nothing drafts, or there is no head to do so.
    func strategy(head: DraftHead?, _ model: LanguageModel) throws -> SpeculationStrategy? {
      switch (self, head) {
      case (.none, _), (.head, nil): nil
      case (.lookup, _): try SpeculationStrategy([.promptLookup], for: model, rule: .exact)
      case (.head, let head?):
        try SpeculationStrategy(
          [.promptLookup, .head(head)], for: model, rule: .exact, fallback: DraftHead.usualFallback)
      }
    }

    fileprivate var name: String? {
      switch self {
      case .none: nil
      case .lookup: "prompt look-up"
      case .head: "draft head and prompt look-up"
      }
    }
  }

  /// A way of decoding that was tried.
  public struct Attempt: Codable, Sendable, Equatable {
    /// Such as `exits`.
    public var name: String
    /// What came of it.
    public var outcome: Certificate.Outcome
    /// The certified threshold; `nil` where none is, and for a way that changes no output.
    public var threshold: Double?
    /// The layer after which prompts stop at every threshold; `nil` for another way.
    public var promptLayer: Int?
    /// The mean loss of the certifying documents at that threshold, beyond full depth's.
    public var risk: Double?
    /// The bound on the expected loss.
    public var bound: Double?
    /// Milliseconds of a document, prompt and output, and of one at full depth, by what the parts of decoding cost.
    public var milliseconds: Double?
    /// The same at full depth.
    public var fullMilliseconds: Double?

    enum CodingKeys: String, CodingKey {
      case name, outcome, threshold, risk, bound, milliseconds
      case promptLayer = "prompt_layer"
      case fullMilliseconds = "full_milliseconds"
    }
  }

  /// A way of decoding on the clock, by turns with the others, on documents that were not used to certify.
  public struct Timing: Codable, Sendable, Equatable {
    /// Such as `exits and prompt look-up`.
    public var name: String
    /// Milliseconds of a token after the first.
    public var tokenMilliseconds: Double
    /// Milliseconds of a document, prompt and output.
    public var documentMilliseconds: Double
    /// Documents whose output is full depth's.
    public var identicalOutputs: Int

    enum CodingKeys: String, CodingKey {
      case name
      case tokenMilliseconds = "token_milliseconds"
      case documentMilliseconds = "document_milliseconds"
      case identicalOutputs = "identical_outputs"
    }
  }

  /// The version of this format.
  public var version = Adaptation.currentVersion
  /// What made it.
  public var program = EgressVersion.program
  /// What the model is called.
  public var model: String
  /// SHA-256 of the model's file or directory.
  public var modelDigest: String
  /// SHA-256 of the file of documents.
  public var documentsDigest: String
  /// What outputs are measured by.
  public var metric: String
  /// What losses are relative to.
  public var risk: String
  /// How documents are decoded besides.
  public var regime: DecodingRegime
  /// ε
  public var epsilon: Double
  /// δ, of which each certifiable way has its share.
  public var delta: Double
  /// Documents that heads, plan and guard were made of.
  public var fittedDocuments: Int
  /// Documents that certify.
  public var certifyingDocuments: Int
  /// Documents that were too long to be read whole and are in neither.
  public var skippedDocuments: Int
  /// What pays.
  public var way: Way
  /// Whether drafts are looked up in the text as well; they change no output.
  public var looksUp: Bool
  /// SHA-256 of the folder's draft head where one drafts besides; that changes no output either.
  public var draftHead: String?
  /// What was tried under a certificate.
  public var attempts: [Attempt]
  /// What was timed, full depth first.
  public var timings: [Timing]
  /// Documents that were timed.
  public var timedDocuments: Int

  enum CodingKeys: String, CodingKey {
    case version, program, model, metric, risk, regime, epsilon, delta, way, attempts, timings
    case modelDigest = "model_sha256"
    case documentsDigest = "documents_sha256"
    case fittedDocuments = "fitted_documents"
    case certifyingDocuments = "certifying_documents"
    case skippedDocuments = "skipped_documents"
    case looksUp = "prompt_lookup"
    case draftHead = "draft_head_sha256"
    case timedDocuments = "timed_documents"
  }

  /// Files of the folder.
  public enum File: String, Sendable, CaseIterable {
    /// The description, written last: without it the folder is unfinished.
    case description = "adaptation.json"
    /// What was asked for, so that an interrupted run goes on with the same.
    case request = "request.json"
    /// Full-depth outputs of the documents that heads are fitted to.
    case outputs = "outputs.jsonl"
    /// Exit heads.
    case heads = "heads.safetensors"
    /// Which exits to look at.
    case plan = "plan.json"
    /// Where prompts stop that exits are certified together with.
    case promptPlan = "prompt-plan.json"
    /// What a prompt costs, so that all machines price alike.
    case promptPrices = "prices.json"
    /// What early exits cost.
    case exitPrices = "exit-prices.json"
    /// A draft head, where one pays; its description lies beside it.
    case draftHead = "draft-head.safetensors"
    /// What was tried and found, for a person.
    case report = "report.html"

    /// Where it lies in a folder.
    public func path(in folder: String) -> String { folder + "/" + rawValue }
  }

  /// The certificate of a way, in a folder.
  public static func certificate(of way: Way, in folder: String) -> String {
    "\(folder)/\(way.rawValue).certificate.json"
  }

  /// Outputs of a way at every threshold, in a folder; of one machine of several, those of its documents.
  public static func runs(of way: Way, shard: Shard? = nil, in folder: String) -> String {
    let path = "\(folder)/\(way.rawValue)." + (shard.map { "\($0.name)." } ?? "")
    return path + "runs.jsonl"
  }

  /// The ways that a folder is prepared for: those with a guard.
  public static func guardedWays(in folder: String) -> [Way] {
    Way.certifiable.filter { FileManager.default.fileExists(atPath: guardPath(of: $0, in: folder)) }
  }

  /// The guard of a way, in a folder.
  static func guardPath(of way: Way, in folder: String) -> String {
    "\(folder)/\(way.rawValue).guard.safetensors"
  }

  /// The folder that belongs to a model's file or directory: beside it, with `.egress` after its name.
  public static func folder(of modelPath: String) -> String {
    var path = modelPath
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path + ".egress"
  }

  /// Reads a folder's description.
  ///
  /// - Returns: `nil` where there is no finished adaptation.
  /// - Throws: ``CertificationError`` for a description that is damaged or of another version.
  public static func read(folder: String) throws -> Adaptation? {
    let path = File.description.path(in: folder)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    guard let bytes = try? Data(contentsOf: URL(fileURLWithPath: path)) else {
      throw CertificationError(.certificate, "cannot read \(path)")
    }
    struct Version: Decodable { var version: Int }
    guard let found = try? JSONDecoder().decode(Version.self, from: bytes) else {
      throw CertificationError(.certificate, "\(path): expected an adaptation, found something else")
    }
    guard found.version == currentVersion else {
      throw CertificationError(
        .certificate, "\(path): version: expected \(currentVersion), found \(found.version)")
    }
    do {
      return try JSONDecoder().decode(Adaptation.self, from: bytes)
    } catch let error as DecodingError {
      throw CertificationError(.certificate, "\(path): \(error.sentence)")
    }
  }

  /// What is said in a sentence of what pays.
  public var summary: String {
    let names: [String] =
      switch way {
      case .exits: ["early exits"]
      case .prompts: ["prompts that stop after a layer"]
      case .both: ["prompts that stop after a layer and early exits"]
      case .fullDepth: looksUp ? [] : ["full depth: nothing that was tried pays"]
      }
    let drafts =
      draftHead == nil ? "drafts looked up in the text" : "drafts of a head and looked up in the text"
    return (names + (looksUp ? [drafts] : [])).joined(separator: ", with ")
  }

  private var drafts: Drafts { looksUp ? draftHead == nil ? .lookup : .head : .none }

  /// How many times faster a document is than at full depth, on the clock; 1 where nothing pays.
  public var gain: (token: Double, document: Double) {
    guard let full = timings.first, let best = chosenTiming, best.name != full.name else { return (1, 1) }
    return (
      full.tokenMilliseconds / best.tokenMilliseconds,
      full.documentMilliseconds / best.documentMilliseconds
    )
  }

  /// The timing of what was chosen.
  public var chosenTiming: Timing? { timings.first { $0.name == Self.name(way, drafts) } }

  static func name(_ way: Way, _ drafts: Drafts) -> String {
    let names = [way == .fullDepth ? nil : way.rawValue, drafts.name].compactMap(\.self)
    return names.isEmpty ? "full depth" : names.joined(separator: " and ")
  }
}
