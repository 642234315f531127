import Foundation

/// A folder that is removed when the test ends.
final class ScratchFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "risk-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ data: Data, _ name: String) throws -> String {
    let file = path + "/" + name
    try data.write(to: URL(fileURLWithPath: file))
    return file
  }

  func write(_ text: String, _ name: String) throws -> String { try write(Data(text.utf8), name) }
}
