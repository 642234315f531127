import Foundation

/// A place that results go to. Every byte is written at once, and a failure is an error, never a shortened result
/// that looks like a whole one.
struct TextOutput {
  static let standard = TextOutput(descriptor: STDOUT_FILENO, name: "standard output")

  let descriptor: Int32
  let name: String

  /// - Throws: ``CommandError`` for a full disk, a closed pipe, and the like.
  func write(_ text: String) throws {
    try write(Array(text.utf8))
  }

  func write(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = systemWrite(descriptor, UnsafeRawBufferPointer(rebasing: rest))
        if count < 0 {
          if errno == EINTR { continue }
          throw CommandError("cannot write to \(name): \(systemMessage())")
        }
        rest = rest.dropFirst(count)
      }
    }
  }
}

/// What the operating system says about its last failure.
func systemMessage(_ code: Int32 = errno) -> String {
  String(cString: strerror(code))
}

// A method called write hides the system's function of that name.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
  write(descriptor, bytes.baseAddress, bytes.count)
}
