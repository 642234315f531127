import Certification
import Foundation

/// Patterns of names, for those who start a command without a shell.
enum FilePattern {
  /// The files that a pattern stands for; a name without a star is itself.
  static func expanded(_ pattern: String) throws -> [String] {
    guard pattern.contains("*"), !FileManager.default.fileExists(atPath: pattern) else { return [pattern] }
    var found = glob_t()
    defer { globfree(&found) }
    guard glob(pattern, 0, nil, &found) == 0 else {
      throw CertificationError(.unfinished, "no file has a name like \(pattern)")
    }
    return (0..<Int(found.gl_pathc)).compactMap { found.gl_pathv[$0].map { String(cString: $0) } }
  }
}
