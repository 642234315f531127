import Certification
import EarlyExit
import FileFormats
import Transformers

/// A token of a trace, as far as a report looks at it.
struct TraceToken: Decodable {
  struct Check: Decodable {
    var layer: Int
    var confidence: Double
  }

  var text: String
  var layer: Int
  var reason: String?
  var checks: [Check]?
  var bytes: Double?
  var seconds: Double?
  /// Who wrote it, where two models did.
  var source: String?

  var confidence: Double? { checks?.last?.confidence }
}

/// The whole lines of a trace.
struct TraceFile {
  let tokens: [TraceToken]
  /// Whether the file ends in the middle of a line, as an interruption leaves it.
  let isCut: Bool

  /// - Throws: ``CommandError`` naming the line for what is not a trace.
  init(path: String) throws {
    let (bytes, name) = try TextInput.bytes(path: path)
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    var tokens: [TraceToken] = []
    var isCut = false
    for (index, line) in lines.enumerated() where line.contains(where: { $0 > 32 }) {
      do {
        let token = try JSONOutput.decode(TraceToken.self, from: line)
        let layers = [token.layer] + (token.checks ?? []).map(\.layer)
        guard layers.allSatisfy((1...10_000).contains) else {
          throw CommandError("the layer \(layers.first { !(1...10_000).contains($0) } ?? 0) is out of range")
        }
        tokens.append(token)
      } catch {
        // Only what follows the last line's end can be a line that was being written.
        guard index == lines.count - 1, !tokens.isEmpty else {
          let what = (error as? DecodingError)?.sentence ?? "\(error)"
          throw CommandError("\(name) line \(index + 1) is not of a trace: \(what)")
        }
        isCut = true
      }
    }
    guard !tokens.isEmpty else { throw CommandError("\(name) is empty") }
    self.tokens = tokens
    self.isCut = isCut
  }
}
