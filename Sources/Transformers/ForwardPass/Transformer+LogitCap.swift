import Checkpoints
import RealModule
import TensorKernels

extension DecoderConfiguration {
  /// Whether something happens to what a block adds to the residual stream before it is added.
  var changesBranches: Bool {
    hasPostNorms || hasOutputBias || hasFeedForwardBias || residualScale != 1
  }
}

extension Transformer {
  /// Logits x become c tanh(x / c), where the family has such a cap (Gemma 2). Their order stays.
  func capLogits(_ logits: UnsafeMutablePointer<Float>, count: Int) {
    guard let cap = configuration.outputLogitCap else { return }
    let address = UInt(bitPattern: logits)
    // Enough numbers to be worth a thread.
    let chunk = 1 << 14
    pool.run(chunks: (count + chunk - 1) / chunk) { index in
      guard let logits = UnsafeMutablePointer<Float>(bitPattern: address) else { return }
      for i in index * chunk..<min((index + 1) * chunk, count) {
        logits[i] = cap * Float.tanh(logits[i] / cap)
      }
    }
  }
}
