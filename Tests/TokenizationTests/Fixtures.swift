import Foundation
import TestSupport
import Testing
import Tokenization

/// Recorded answers of the reference implementations; the scripts beside them made them.
enum Fixtures {
  static func bytes(_ name: String) throws -> [UInt8] {
    let url = try #require(Bundle.module.url(forResource: "Fixtures/\(name)", withExtension: nil))
    return [UInt8](try Data(contentsOf: url))
  }

  static func decode<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value {
    try JSONDecoder().decode(type, from: Data(try bytes(name)))
  }

  static func byteLevelBPE(_ name: String) throws -> ByteLevelBPE {
    try ByteLevelBPE(tokenizerJSON: bytes("\(name).tokenizer.json"))
  }
}

extension SplitMix64 {
  /// A text of scalars of all lengths in UTF-8, with many spaces, digits and apostrophes.
  mutating func text(maximumLength: Int) -> String {
    var text = String.UnicodeScalarView()
    for _ in 0..<Int.random(in: 0...maximumLength, using: &self) {
      let value: UInt32 =
        switch Int.random(in: 0..<8, using: &self) {
        case 0: 0x20
        case 1: .random(in: 0..<0x80, using: &self)
        case 2: .random(in: 0x61...0x7A, using: &self)
        case 3: .random(in: 0x80..<0x800, using: &self)
        case 4: .random(in: 0x800..<0xD800, using: &self)
        case 5: .random(in: 0xE000..<0x10000, using: &self)
        case 6: .random(in: 0x10000..<0x110000, using: &self)
        default: [0x0A, 0x0D, 0x27, 0x31, 0x3000, 0x3C, 0x7C, 0x3E].randomElement(using: &self) ?? 0x20
        }
      if let scalar = Unicode.Scalar(value) { text.append(scalar) }
    }
    return String(text)
  }
}
