import Checkpoints
import Foundation
import Testing
import Transformers

/// Tiny random models with what Hugging Face transformers computes for them; Tests/Scripts/make_model_fixtures.py.
enum FixtureModels {
  static func path(_ name: String) throws -> String {
    try #require(Bundle.module.url(forResource: "Fixtures/\(name)", withExtension: nil)).path
  }

  static func expected<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value {
    let file = URL(fileURLWithPath: try path(name)).appending(path: "expected.json")
    return try JSONDecoder().decode(type, from: Data(contentsOf: file))
  }

  static func model(_ name: String, compute: ComputePath = .float32, threads: Int = 1) throws -> Transformer {
    try Transformer(checkpoint: Checkpoint.open(path(name)), compute: compute, threads: threads)
  }

  /// Expects logits to be the reference's: to 1e-4 of the largest of them in single precision, roughly when rounded to
  /// 8 bits, more roughly when to 4, and closely when weights are rounded to bfloat16.
  static func expect(
    _ found: [Float], equal expected: [Float], compute: ComputePath, _ comment: Comment,
    rounding: Double = 0.06, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(found.count == expected.count, sourceLocation: sourceLocation)
    let scale = max(1, expected.map(abs).max() ?? 1)
    if compute == .float32 {
      let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
      #expect(worst < 1e-4 * scale, comment, sourceLocation: sourceLocation)
    } else {
      let error = zip(found, expected).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      let size = expected.reduce(0) { $0 + $1 * $1 }
      let allowed: Float =
        switch compute {
        case .fourBit: 0.3
        case .sixteenBit: 0.02
        case .quantized, .float32: Float(rounding)
        }
      #expect(
        (error / size).squareRoot() < allowed, comment,
        sourceLocation: sourceLocation)
    }
  }
}
