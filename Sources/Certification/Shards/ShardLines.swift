import FileFormats

/// The lines of a shard that is worked on: those that an earlier run has left, and those that are added, one a document
/// in the documents' order.
package final class ShardLines {
  /// Whole lines of an earlier run, the header apart.
  package let done: [ArraySlice<UInt8>]
  private let file: ResumableLines
  private let shard: ShardFile

  private struct Named: Decodable { var id: DocumentIdentifier }

  /// Opens the shard where an earlier run has left it.
  ///
  /// - Parameters:
  ///   - path: Where the shard is when it is whole.
  ///   - header: Its first line.
  ///   - ids: The documents of the shard, in their order.
  /// - Throws: ``CertificationError`` for a file that another process writes to, and for one that was begun as
  ///   something else, which is left as it is.
  package init(path: String, header: BatchShardHeader, ids: [DocumentIdentifier]) throws {
    shard = ShardFile(path: path)
    let path = shard.partialPath
    file = try ResumableLines(path: path)
    try file.checkUnfinished(shard.path)
    guard try file.lines.first.map({ try header.isContinued(by: $0) }) ?? true else {
      throw CertificationError(
        .shards,
        "\(path) was begun with another model, with other options or on other documents; give the same again, or "
          + "choose another --output")
    }
    done = Array(file.lines.dropFirst())
    for (index, line) in done.enumerated() {
      let found = try? JSONOutput.decode(Named.self, from: line).id
      guard index < ids.count, found == ids[index] else {
        throw CertificationError(
          .shards, "\(path) line \(index + 2) is not of the document that belongs there; remove the file")
      }
    }
    guard file.rest.isEmpty || file.rest.first == UInt8(ascii: "{") else {
      throw CertificationError(
        .shards, "\(path) line \(file.lines.count + 1) is no result; choose another --output")
    }
    try file.beginAppending()
    if file.lines.isEmpty { try file.append(header.line()) }
  }

  /// Appends a document's line. On failure the file is cut back to its whole lines.
  package func append(_ line: some Encodable) throws { try file.append(JSONOutput.line(line)) }

  /// Gives the file its own name: all documents are in it.
  package func finish() throws { try file.finish(as: shard.path) }
}
