import Foundation

/// The default model, which `make test` fetches.
public enum DefaultModel {
  /// Where it lies, or `nil` where it has not been fetched.
  public static let path: String? = {
    let environment = ProcessInfo.processInfo.environment
    let home = environment["EGRESS_HOME"] ?? (environment["HOME"] ?? "") + "/.cache/egress"
    let path = home + "/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()
}
