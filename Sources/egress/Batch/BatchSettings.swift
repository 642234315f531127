import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Generation

/// What the results of a batch are made with, apart from the documents. A resumed batch must have the same, or one
/// file would mix results of different makings.
struct BatchSettings {
  /// Everything that can change an output. Files are named by their hashes.
  private struct Description: Encodable {
    var model: String
    var compute: String?
    var template: String?
    /// Absent where models are asked as chat models are.
    var prompts: String?
    var raw: Bool
    var long: String
    var maxTokens: Int
    var temperature: Float?
    var topK: Int?
    var topP: Float?
    var minP: Float?
    /// Absent when it is drawn anew for each run.
    var seed: UInt64?
    var stop: [String]
    var context: Int?
    var noRepeatNgram: Int?
    /// Absent for what is usual for the model.
    var extractive: Bool?
    var exits: [String: String]
  }

  private let text: String

  /// - Parameter exits: The options of early exit that were given, by name.
  init(
    _ loaded: LoadedModel, options: GenerationOptions, rule: LongDocumentRule, raw: Bool, seed: UInt64?,
    exits: [String: String]
  ) throws {
    var random: RandomSampling?
    if case .random(let sampling) = options.sampling { random = sampling }
    text = try JSONOutput.line(
      Description(
        model: loaded.digest(),
        compute: loaded.model.computeName,
        // A model without a template works with --raw.
        template: try? loaded.model.templateDigest(),
        prompts: loaded.model.promptStyle == .chat ? nil : loaded.model.promptStyle.fingerprint, raw: raw,
        long: rule.rawValue,
        maxTokens: options.maxTokens, temperature: random?.temperature, topK: random?.topK,
        topP: random?.topP, minP: random?.minP, seed: random == nil ? nil : seed, stop: options.stopStrings,
        context: options.context, noRepeatNgram: options.noRepeatNgram,
        extractive: options.isExtractive, exits: exits))
  }

  /// SHA-256 of the settings alone.
  var digest: String { FileDigest.sha256(text: text) }

  /// The first 16 hexadecimal digits of the SHA-256 of the settings and a document with what is asked about it.
  func digest(of item: DocumentBatch.Item) -> String {
    var parts = [text]
    switch item.task {
    case .answer(let question): parts.append(question)
    case .summary(let request):
      if let length = request.length { parts.append("\(length)") }
      if let focus = request.focus { parts.append("focus \(focus)") }
    }
    parts.append(item.document)
    // Lengths keep the parts apart.
    let whole = parts.map { "\($0.utf8.count) \($0)" }.joined()
    return String(FileDigest.sha256(text: whole).prefix(16))
  }
}
