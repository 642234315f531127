import FileFormats
import Foundation
import RiskControl

/// What a shard is a part of, and how it was asked for.
public struct ShardDescription: Codable, Sendable, Equatable {
  /// Which one.
  public var shard: Shard
  /// The command that ran.
  public var command: String
  /// What the command was given, but for the shard and the threads.
  public var arguments: [String]
  /// The file of documents, as it was given.
  public var data: String
  /// SHA-256 of that file.
  public var dataDigest: String
  /// SHA-256 of the model.
  public var modelDigest: String
  /// Where the results of all shards belong together, as it was given.
  public var output: String
  /// Documents at the beginning of the file that no shard works on.
  public var skipped: Int
  /// Documents after those that the shards have together.
  public var documents: Int
  /// Documents of this shard.
  public var lines: Int
  /// Which of the policies that a calibration chooses among; absent where there is one.
  public var candidate: String?
  /// What a calibration's remark is about; absent elsewhere.
  public var decoder: DecoderFacts?

  enum CodingKeys: String, CodingKey {
    case shard, command, arguments, data, output, skipped, documents, lines, candidate, decoder
    case dataDigest = "data_sha256"
    case modelDigest = "model_sha256"
  }

  /// Describes a shard.
  public init(
    _ shard: Shard, command: String, arguments: [String], data: String, dataDigest: String,
    modelDigest: String, output: String, skipped: Int = 0, documents: Int, lines: Int,
    candidate: String? = nil, decoder: DecoderFacts? = nil
  ) {
    self.shard = shard
    self.command = command
    self.arguments = arguments
    self.data = data
    self.dataDigest = dataDigest
    self.modelDigest = modelDigest
    self.output = output
    self.skipped = skipped
    self.documents = documents
    self.lines = lines
    self.candidate = candidate
    self.decoder = decoder
  }

  /// The same with what is known once the model is loaded and the documents are read.
  public func completed(
    modelDigest: String, skipped: Int, documents: Int, lines: Int, decoder: DecoderFacts? = nil
  ) -> ShardDescription {
    var whole = self
    (whole.modelDigest, whole.decoder) = (modelDigest, decoder)
    (whole.skipped, whole.documents, whole.lines) = (skipped, documents, lines)
    return whole
  }

  /// What of the whole differs from another shard's, or `nil` where both are parts of the same.
  ///
  /// Arguments that name where the model, the documents and the results lie may differ from machine to machine: digests
  /// say what they are.
  func difference(to other: ShardDescription) -> String? {
    if shard.count != other.shard.count { return "one of \(other.shard.count) shards" }
    if command != other.command { return "egress \(other.command)" }
    if modelDigest != other.modelDigest { return "another model" }
    if dataDigest != other.dataDigest { return "another file of documents" }
    if Self.significant(arguments) != Self.significant(other.arguments) { return "other options" }
    if candidate != other.candidate { return other.candidate ?? "one policy" }
    return nil
  }

  private static let places: Set<String> = ["--model", "--adapter", "--data", "--input", "--output"]

  private static func significant(_ arguments: [String]) -> [String] { without(places, in: arguments) }

  /// Arguments without some options and their values.
  ///
  /// - Parameter options: Options that take one value each.
  package static func without(_ options: Set<String>, in arguments: [String]) -> [String] {
    var left: [String] = []
    var isValue = false
    for argument in arguments {
      if isValue {
        isValue = false
      } else if options.contains(argument) {
        isValue = true
      } else if !options.contains(argument.prefix { $0 != "=" }.description) {
        left.append(argument)
      }
    }
    return left
  }
}

/// What a calibration says about the decoder that it ran.
public struct DecoderFacts: Codable, Sendable, Equatable {
  /// What the model is called.
  public var model: String
  /// What drafts for it.
  public var draft: String?
  /// How many layers the model has.
  public var layers: Int
  /// Megabytes of weights that a token of the model alone reads.
  public var megabytes: Double

  /// Puts the facts together.
  public init(model: String, draft: String?, layers: Int, megabytes: Double) {
    self.model = model
    self.draft = draft
    self.layers = layers
    self.megabytes = megabytes
  }
}

/// The first line of a shard's file: its description, and beside it what its lines were made with.
struct ShardHeader: Equatable {
  var description: ShardDescription
  /// Everything that can change a line; equal for all shards of one whole.
  var makings: [String: JSONValue]

  private struct Part: Decodable { var shard: ShardDescription }

  /// Reads a line; `nil` for one that is no shard's header.
  init?(line: some Sequence<UInt8>) {
    let data = Data(line)
    guard let part = try? JSONDecoder().decode(Part.self, from: data),
      case .object(var fields)? = try? JSONDecoder().decode(JSONValue.self, from: data)
    else { return nil }
    fields["shard"] = nil
    description = part.shard
    makings = fields
  }

  /// The same for all policies that one calibration chooses among.
  var withoutCandidate: ShardHeader {
    var header = self
    header.description.candidate = nil
    if case .object(var policy)? = makings["policy"], description.candidate != nil {
      (policy["fallback"], policy["prompt"]) = (nil, nil)
      header.makings["policy"] = .object(policy)
    }
    return header
  }

  /// Why another file's lines do not go together with these; `nil` where they do.
  func difference(to other: ShardHeader) -> String? {
    if let found = description.difference(to: other.description) { return found }
    if makings != other.makings { return "other options" }
    let (own, others) = (description, other.description)
    guard own.skipped == others.skipped, own.documents == others.documents else { return "other documents" }
    return nil
  }
}
