import Crypto

/// Hashes of whole files, to tell a downloaded model from a damaged or another one.
public enum FileDigest {
  private static let chunk = 1 << 20

  /// The SHA-256 of the file at `path` as 64 lowercase hexadecimal digits.
  ///
  /// - Complexity: linear in the file's size; the file's pages are released as it goes, so that memory stays small.
  /// - Throws: ``FileError`` when the file is missing, empty or cannot be read.
  public static func sha256(path: String) throws(FileError) -> String {
    let file = try MappedFile(path: path)
    var hash = SHA256()
    for start in stride(from: 0, to: file.bytes.count, by: chunk) {
      let range = start..<min(start + chunk, file.bytes.count)
      hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: file.bytes[range]))
      file.releasePages(range)
    }
    return hexadecimal(hash.finalize())
  }

  /// The SHA-256 of a text's UTF-8 bytes.
  public static func sha256(text: String) -> String {
    var hash = SHA256()
    Array(text.utf8).withUnsafeBytes { hash.update(bufferPointer: $0) }
    return hexadecimal(hash.finalize())
  }

  package static func hexadecimal(_ digest: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef")
    return String(digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }
}
