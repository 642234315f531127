import RealModule
import Transformers

/// BiLD's fallback policy: a token less probable than α_FB to the model that drafts it is not drafted
/// (Kim et al., "Speculative decoding with big little decoder", NeurIPS 2023, equation 4).
struct FallbackThreshold {
  private let logThreshold: Double

  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` for a threshold outside 0...1.
  init(_ threshold: Double) throws(SpeculativeDecodingError) {
    guard (0...1).contains(threshold) else {
      throw .option(field: "fallback", expected: "in 0...1", found: "\(threshold)")
    }
    logThreshold = threshold == 0 ? -.infinity : Double.log(threshold)
  }

  /// The most probable token of a row of logits, or `nil` when it is not probable enough.
  ///
  /// - Parameter candidates: The tokens that the logits are of; `nil` for the whole vocabulary.
  func draft(_ logits: UnsafeBufferPointer<Float>, of candidates: [TokenID]? = nil) -> TokenID? {
    let best = Logits.argmax(logits)
    let isSure =
      logThreshold == -.infinity || Double(logits[best]) - Logits.logSumExp(logits) >= logThreshold
    return isSure ? candidates?[best] ?? best : nil
  }
}
