import ArgumentParser
import Foundation

/// A text that a command works on: a file, or standard input.
struct TextInput {
  /// The text as it is in the file.
  var text: String
  /// What to call it in messages.
  var name: String

  /// Texts are read into memory; one larger than this is a mistake.
  private static let largest = 1 << 30

  /// Reads a file, or standard input for `-` and for no path.
  ///
  /// - Throws: `ValidationError` when there is no path and nobody pipes anything in; ``CommandError`` for a file
  ///   that cannot be read or is not UTF-8.
  init(path: String?) throws {
    let (bytes, name) = try Self.bytes(path: path)
    self.name = name
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CommandError("\(name) is not UTF-8 text\(Self.advice(on: bytes))")
    }
    self.text = text
  }

  /// What makes a text of what people hand over instead of one, by its first bytes; nothing for other bytes.
  private static func advice(on bytes: some Sequence<UInt8>) -> String {
    if bytes.starts(with: "%PDF-".utf8) {
      return ", but a PDF: make a text of it, with pdftotext for example"
    }
    if bytes.starts(with: "PK\u{3}\u{4}".utf8) {
      return ", but an archive, as DOCX, ODT and EPUB are: make a text of it, with pandoc for example"
    }
    if bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF]) {
      return ", but UTF-16: make UTF-8 of it, with iconv for example"
    }
    return ""
  }

  /// A text to read as a document: without a byte order mark, and neither empty nor binary.
  static func document(path: String?) throws -> TextInput {
    var input = try TextInput(path: path)
    if input.text.unicodeScalars.first == "\u{FEFF}" { input.text.unicodeScalars.removeFirst() }
    guard !input.text.utf8.contains(0) else {
      throw CommandError("\(input.name) is binary, not text\(advice(on: input.text.utf8))")
    }
    guard input.text.contains(where: { !$0.isWhitespace }) else {
      throw CommandError("\(input.name) is empty")
    }
    return input
  }

  static func bytes(path: String?) throws -> (bytes: [UInt8], name: String) {
    guard let path, path != "-" else {
      if path == nil, isatty(STDIN_FILENO) == 1 {
        throw ValidationError("Give a file, or - to read standard input.")
      }
      return (try read(STDIN_FILENO, name: "standard input"), "standard input")
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CommandError("cannot read \(path): \(systemMessage())") }
    defer { close(descriptor) }
    return (try read(descriptor, name: path), path)
  }

  private static func read(_ descriptor: Int32, name: String) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = systemRead(descriptor, &buffer)
      if count < 0 {
        if errno == EINTR { continue }
        throw CommandError("cannot read \(name): \(systemMessage())")
      }
      if count == 0 { return bytes }
      bytes.append(contentsOf: buffer[..<count])
      guard bytes.count <= largest else {
        throw CommandError("\(name) is larger than \(largest >> 30) GiB")
      }
    }
  }
}

// A method called read hides the system's function of that name.
private func systemRead(_ descriptor: Int32, _ buffer: inout [UInt8]) -> Int {
  buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
}
