import Certification
import Generation

extension DocumentFile {
  /// Reads a file of documents, or standard input for `-`.
  ///
  /// - Throws: ``CertificationError`` naming the line, ``CommandError`` for a file that cannot be read.
  static func read(
    _ path: String, makeTask: (RecordedRequest) throws -> DocumentTask = { $0.task }
  ) throws -> [DocumentRecord] {
    let (bytes, name) = try TextInput.bytes(path: path)
    return try read(bytes, name: name, makeTask: makeTask)
  }
}
