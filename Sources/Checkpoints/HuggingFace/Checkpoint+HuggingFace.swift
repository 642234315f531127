import FileFormats

extension Checkpoint {
  private static let shardLimit = 1024
  private static let indexByteLimit = 100_000_000

  /// Opens a Hugging Face directory. Tensors get GGUF's names; see ``HuggingFaceNames``.
  static func openDirectory(_ path: String) throws(CheckpointError) -> Checkpoint {
    let directory = path.hasSuffix("/") ? path : path + "/"
    let name = path.split(separator: "/").last.map(String.init) ?? path
    let configuration = try DecoderConfiguration(
      huggingFace: MappedFile(path: directory + "config.json"), name: name)
    let stored: [String: MappedTensor]
    // As the Hugging Face libraries do, one file is preferred to shards.
    if MappedFile.exists(directory + "model.safetensors") || !MappedFile.exists(directory + indexName) {
      stored = try openSafetensors(directory + "model.safetensors")
    } else {
      stored = try openShards(directory)
    }
    let names = HuggingFaceNames(configuration.family)
    var tensors: [String: MappedTensor] = [:]
    // In order, so that the same file always gives the same error.
    for (storedName, tensor) in stored.sorted(by: { $0.key < $1.key }) {
      let canonical = names.canonical(storedName)
      guard tensors.updateValue(tensor.renamed(canonical), forKey: canonical) == nil else {
        throw .damaged(
          tensor.path, "tensor \(CheckpointError.printable(storedName))",
          expected: "one tensor of that meaning",
          found: "two")
      }
    }
    return try Checkpoint(
      path: path, kind: .huggingFace, configuration: configuration, metadata: [:], tensors: tensors)
  }

  private static let indexName = "model.safetensors.index.json"

  private struct Index: Decodable {
    // The spelling of the file.
    var weight_map: [String: String]
  }

  private static func openSafetensors(_ path: String) throws(CheckpointError) -> [String: MappedTensor] {
    try SafetensorsFile(MappedFile(path: path), ignoring: HuggingFaceNames.isDerived).tensors
  }

  private static func openShards(_ directory: String) throws(CheckpointError) -> [String: MappedTensor] {
    let file = try MappedFile(path: directory + indexName)
    guard file.bytes.count <= indexByteLimit else {
      throw .damaged(file.path, "", expected: "at most \(indexByteLimit) bytes", found: "\(file.bytes.count)")
    }
    let map = try JSONStructure.decode(Index.self, from: file.bytes, file: file.path, field: "").weight_map
    let shards = Set(map.values).sorted()
    guard shards.count <= shardLimit else {
      throw .damaged(
        file.path, "weight_map", expected: "at most \(shardLimit) files", found: "\(shards.count)")
    }
    var tensors: [String: MappedTensor] = [:]
    for shard in shards {
      // A name with a slash could reach any file of the machine.
      guard !shard.isEmpty, !shard.hasPrefix("."), !shard.utf8.contains(UInt8(ascii: "/")) else {
        throw .damaged(
          file.path, "weight_map", expected: "names of files in the same directory",
          found: "\"\(CheckpointError.printable(shard))\"")
      }
      for (name, tensor) in try openSafetensors(directory + shard).sorted(by: { $0.key < $1.key }) {
        guard map[name] == shard else {
          let printable = CheckpointError.printable(name)
          throw .damaged(
            tensor.path, "tensor \(printable)",
            expected: map[name].map { "it only in \(CheckpointError.printable($0)), as the index says" }
              ?? "only tensors that the index lists", found: "it here")
        }
        tensors[name] = tensor
      }
    }
    for (name, shard) in map.sorted(by: { $0.key < $1.key })
    where tensors[name] == nil && !HuggingFaceNames.isDerived(name) {
      throw CheckpointError(
        kind: .tensor, file: directory + shard, field: "tensor \(CheckpointError.printable(name))",
        expected: "a tensor, as the index says", found: "no such tensor")
    }
    return tensors
  }
}
