import EarlyExit
import FileFormats
import Foundation
import Generation
import Transformers

/// A file that lines are appended to, each at once and whole.
final class LineFile {
  private let output: TextOutput

  /// Makes the file, or empties it.
  init(path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw CommandError("cannot write to \(path): \(systemMessage())") }
    output = TextOutput(descriptor: descriptor, name: path)
  }

  deinit { close(output.descriptor) }

  func append(_ line: String) throws { try output.write(line + "\n") }
}

/// The file that a generation's trace goes to: a line of JSON a token, each written when its token is there.
final class TraceOutput {
  private struct Line: Encodable {
    struct Check: Encodable {
      var layer: Int
      var confidence: Double
    }

    var index: Int
    var id: TokenID
    var text: String
    var layer: Int
    /// That of the last exit layer that was looked at.
    var confidence: Double?
    var reason: String
    var checks: [Check]
    /// Bytes of weights read; absent for the first token, which the prompt's pass gives.
    var bytes: Int?
    var seconds: Double
    /// Who wrote the token, and drafted tokens that were rolled back here; absent where nothing is drafted.
    var source: TokenSource.Writer?
    var discarded: Int?
  }

  private let file: LineFile
  private var count = 0

  init(path: String) throws { file = try LineFile(path: path) }

  func append(_ step: TokenStep, seconds: Double) throws {
    let checks = step.depth?.checks ?? []
    let line = Line(
      index: count, id: step.id, text: step.text, layer: step.layer, confidence: checks.last?.confidence,
      reason: (step.depth?.reason ?? .lastLayer).description,
      checks: checks.map { .init(layer: $0.layer, confidence: $0.confidence) }, bytes: step.depth?.bytesRead,
      seconds: seconds, source: step.source?.writer, discarded: step.source?.discarded)
    try file.append(try JSONOutput.line(line))
    count += 1
  }
}

/// Text coloured by the layer after which its token left: blue for the first layers, red for the last.
struct ExitColors {
  let layerCount: Int
  private let isOn: Bool

  init(layerCount: Int, wanted: Bool) {
    self.layerCount = layerCount
    isOn = wanted && Console.outputHasColor
  }

  /// Colours of the 256-colour palette, early to late.
  private static let palette = [33, 39, 43, 48, 82, 118, 154, 190, 220, 208, 202, 196]

  func paint(_ text: String, layer: Int) -> String {
    guard isOn, !text.isEmpty, layerCount > 0 else { return text }
    let place = min(max(layer * Self.palette.count / (layerCount + 1), 0), Self.palette.count - 1)
    return "\u{1B}[38;5;\(Self.palette[place])m\(text)\u{1B}[0m"
  }
}
