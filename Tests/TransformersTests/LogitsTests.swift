import Foundation
import Testing
import Transformers

@Suite("Logits")
struct LogitsTests {
  @Test(
    "the logarithm of a sum of exponentials keeps six digits over a large, flat vocabulary",
    arguments: [1, 49_152, 262_144])
  func largeVocabulary(count: Int) {
    var logits = (0..<count).map { Float(sin(Double($0) * 12.9898)) * 3 }
    logits[count / 2] = 9
    let exact = log(logits.reduce(0.0) { $0 + exp(Double($1)) })
    let found = logits.withUnsafeBufferPointer { Logits.logSumExp($0) }
    #expect(abs(found - exact) < 2e-6, "\(found) in place of \(exact)")
  }
}
