import FileFormats

/// The models that are known by name.
struct ModelList {
  /// A model, and whether it is here.
  private struct Row: Encodable {
    var name: String
    var description: String
    var size: Int
    var sha256: String
    var licence: String
    var isHere: Bool
    var path: String
  }

  private let rows: [Row]

  init(_ store: ModelStore) {
    rows = store.manifest.models.map {
      Row(
        name: $0.name, description: $0.description, size: $0.size, sha256: $0.sha256, licence: $0.licence,
        isHere: store.holds($0), path: store.path($0))
    }
  }

  func json() throws -> String { try JSONOutput.line(rows) + "\n" }

  /// A line a model, its columns apart by tabs.
  var text: String {
    rows.map {
      "\($0.name)\t\($0.isHere ? "here" : "not here")\t\($0.size.grouped) bytes\t\($0.licence)\t"
        + "\($0.description)\n"
    }.joined()
  }
}
