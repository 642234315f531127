import FileFormats

/// A model in several GGUF files, `NAME-00001-of-0000N.gguf` and so on. The first has the metadata, each has tensors.
struct GGUFParts {
  let metadata: [String: MetadataValue]
  let tensors: [String: MappedTensor]

  /// More parts than any model has.
  private static let partLimit = 1024

  /// Opens a file and, where it is one of several, the others beside it, whichever of them is named.
  ///
  /// - Throws: ``CheckpointError`` for a part that is missing, stands in another's place, or has tensors of another or
  ///   more or fewer than the metadata states.
  init(path: String) throws(CheckpointError) {
    let named = try GGUFFile(MappedFile(path: path))
    guard let place = try Self.place(of: named, path) else {
      metadata = named.metadata
      tensors = named.tensors
      return
    }
    let paths = try Self.paths(of: path, place: place)
    var metadata: [String: MetadataValue] = [:]
    var tensors: [String: MappedTensor] = [:]
    var stated: Int?
    var first: GGUFFile?
    for (index, partPath) in paths.enumerated() {
      let part = index == place.index ? named : try GGUFFile(MappedFile(path: partPath))
      let field = "metadata key split.no"
      guard let own = try Self.place(of: part, partPath) else {
        throw .damaged(partPath, field, expected: "\(index)", found: "no such key")
      }
      guard own.index == index else {
        throw .damaged(partPath, field, expected: "\(index), as the file's name says", found: "\(own.index)")
      }
      guard own.count == place.count else {
        throw .damaged(
          partPath, "metadata key split.count", expected: "\(place.count), as in \(path)",
          found: "\(own.count)")
      }
      let total = part.metadata["split.tensors.count"]?.int
      if let total, let stated, total != stated {
        throw .damaged(
          partPath, "metadata key split.tensors.count", expected: "\(stated), as in \(paths[0])",
          found: "\(total)")
      }
      stated = stated ?? total
      try Self.expectSameModel(part, partPath, as: first, paths[0])
      if index == 0 { (first, metadata) = (part, part.metadata) }
      for (name, tensor) in part.tensors.sorted(by: { $0.key < $1.key }) {
        guard let other = tensors.updateValue(tensor, forKey: name) else { continue }
        throw .damaged(
          partPath, "tensor \(CheckpointError.printable(name))", expected: "it in one part",
          found: "it in \(other.path) as well")
      }
    }
    if let stated, stated != tensors.count {
      throw .damaged(
        paths[0], "metadata key split.tensors.count", expected: "the tensors of all parts, \(tensors.count)",
        found: "\(stated)")
    }
    self.metadata = metadata
    self.tensors = tensors
  }

  /// The files of a model that is named by one of them; just that one where it is whole.
  static func paths(_ path: String) -> [String] {
    guard let parsed = parse(path) else { return [path] }
    return (0..<parsed.count).map { name(parsed.stem, $0, of: parsed.count) }
  }

  /// Which of how many parts a file is, by its metadata; nil for a whole model.
  private static func place(
    of file: GGUFFile, _ path: String
  ) throws(CheckpointError) -> (index: Int, count: Int)? {
    guard let stored = file.metadata["split.count"] else { return nil }
    guard let count = stored.int, (0...partLimit).contains(count) else {
      throw .damaged(
        path, "metadata key split.count", expected: "0 to \(partLimit)", found: stored.kindName)
    }
    // Some writers state the one part of a whole model.
    guard count > 1 else { return nil }
    let index = file.metadata["split.no"]
    guard let number = index?.int, (0..<count).contains(number) else {
      throw .damaged(
        path, "metadata key split.no", expected: "0 to \(count - 1)", found: index?.kindName ?? "no such key")
    }
    return (number, count)
  }

  private static func paths(
    of path: String, place: (index: Int, count: Int)
  ) throws(CheckpointError) -> [String] {
    guard let parsed = parse(path), parsed.index == place.index, parsed.count == place.count else {
      throw CheckpointError(
        kind: .damaged, file: path, field: "name",
        expected: "one that ends in " + name("", place.index, of: place.count)
          + ", as its metadata says: the other parts are looked for beside it",
        found: "another")
    }
    return (0..<place.count).map { name(parsed.stem, $0, of: place.count) }
  }

  /// Parts have little metadata, but what they have must be the first one's.
  private static func expectSameModel(
    _ part: GGUFFile, _ path: String, as first: GGUFFile?, _ firstPath: String
  ) throws(CheckpointError) {
    guard let first else { return }
    for key in ["general.architecture", "general.name", "general.file_type"] {
      guard let found = part.metadata[key], let expected = first.metadata[key] else { continue }
      guard found.kindName == expected.kindName else {
        throw .damaged(
          path, "metadata key \(key)", expected: "\(expected.kindName), as in \(firstPath)",
          found: found.kindName)
      }
    }
  }

  private static func name(_ stem: String, _ index: Int, of count: Int) -> String {
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    return "\(stem)-\(padded(index + 1))-of-\(padded(count)).gguf"
  }

  private static func parse(_ path: String) -> (stem: String, index: Int, count: Int)? {
    guard let match = path.wholeMatch(of: #/(.*)-([0-9]{5})-of-([0-9]{5})\.gguf/#.dotMatchesNewlines()),
      let index = Int(match.2), let count = Int(match.3), index >= 1, index <= count, count <= partLimit
    else { return nil }
    return (String(match.1), index - 1, count)
  }
}
