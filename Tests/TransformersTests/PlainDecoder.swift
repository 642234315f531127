import Checkpoints
import Foundation

/// The forward pass once more, as plain as it can be and in double precision: what the fast one is judged by.
///
/// It keeps nothing between tokens: every call computes a whole sequence anew.
struct PlainDecoder {
  let checkpoint: Checkpoint
  let configuration: DecoderConfiguration

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    configuration = checkpoint.configuration
  }

  private func weights(_ name: String) throws -> [Double] {
    try checkpoint.tensor(name).makeFloats().map(Double.init)
  }

  private func multiply(_ name: String, _ x: [Double]) throws -> [Double] {
    let matrix = try weights(name)
    let rows = matrix.count / x.count
    return (0..<rows).map { row in
      (0..<x.count).reduce(0) { $0 + matrix[row * x.count + $1] * x[$1] }
    }
  }

  private func normalized(_ x: [Double], _ name: String) throws -> [Double] {
    let mean = x.reduce(0) { $0 + $1 * $1 } / Double(x.count)
    let factor = 1 / (mean + Double(configuration.normEpsilon)).squareRoot()
    return zip(x, try weights(name)).map { $0 * factor * $1 }
  }

  private func frequency(_ pair: Int) -> Double {
    let plain = pow(
      Double(configuration.rotaryBase), -2 * Double(pair) / Double(configuration.rotaryDimension))
    switch configuration.rotaryScaling {
    case .none: return plain
    case .linear(let factor): return plain / Double(factor)
    case .divisors(let divisors): return plain / Double(divisors[pair])
    case .llama3(let factor, let low, let high, let context):
      // Hugging Face's formula, written from its description.
      let wavelength = 2 * Double.pi / plain
      let smooth = min(
        max((Double(context) / wavelength - Double(low)) / (Double(high) - Double(low)), 0), 1)
      return plain * (smooth + (1 - smooth) / Double(factor))
    // Compared with transformers itself (FamilyTests); here no comparison could succeed.
    case .yarn, .dynamic, .longRope: return .nan
    }
  }

  private func rotated(_ head: [Double], position: Int) -> [Double] {
    var result = head
    let half = configuration.rotaryDimension / 2
    for pair in 0..<half {
      let (a, b) =
        configuration.rotaryLayout == .interleaved ? (2 * pair, 2 * pair + 1) : (pair, pair + half)
      let angle = Double(position) * frequency(pair)
      result[a] = head[a] * cos(angle) - head[b] * sin(angle)
      result[b] = head[a] * sin(angle) + head[b] * cos(angle)
    }
    return result
  }

  /// Logits of every position: (tokens, vocabulary); and hidden states after each layer at the last position.
  func run(_ tokens: [Int]) throws -> (logits: [[Double]], hidden: [[Double]]) {
    let size = configuration.hiddenSize
    let headSize = configuration.headSize
    let group = configuration.headCount / configuration.keyValueHeadCount
    let embedding = try weights("token_embd.weight")
    var states = tokens.map { Array(embedding[$0 * size..<($0 + 1) * size]) }
    var hidden = [states[tokens.count - 1]]
    for layer in 0..<configuration.layerCount {
      let prefix = "blk.\(layer)."
      func project(_ name: String, _ x: [Double]) throws -> [Double] {
        let product = try multiply("\(prefix)\(name).weight", x)
        guard configuration.hasAttentionBias else { return product }
        return zip(product, try weights("\(prefix)\(name).bias")).map { $0 + $1 }
      }
      func heads(_ x: [Double]) -> [[Double]] {
        stride(from: 0, to: x.count, by: headSize).map { Array(x[$0..<$0 + headSize]) }
      }
      let inputs = try states.map { try normalized($0, "\(prefix)attn_norm.weight") }
      var keys: [[[Double]]] = []
      var values: [[[Double]]] = []
      for (position, input) in inputs.enumerated() {
        keys.append(heads(try project("attn_k", input)).map { rotated($0, position: position) })
        values.append(heads(try project("attn_v", input)))
      }
      for (position, input) in inputs.enumerated() {
        let queries = heads(try project("attn_q", input)).map { rotated($0, position: position) }
        var mixed: [Double] = []
        for (index, query) in queries.enumerated() {
          let shared = index / group
          let scores = (0...position).map { earlier in
            zip(query, keys[earlier][shared]).reduce(0) { $0 + $1.0 * $1.1 } / Double(headSize).squareRoot()
          }
          let largest = scores.max() ?? 0
          let exponentials = scores.map { exp($0 - largest) }
          let total = exponentials.reduce(0, +)
          for d in 0..<headSize {
            mixed.append(
              (0...position).reduce(0) { $0 + exponentials[$1] / total * values[$1][shared][d] })
          }
        }
        let output = try multiply("\(prefix)attn_output.weight", mixed)
        states[position] = zip(states[position], output).map { $0 + $1 }
        let inner = try normalized(states[position], "\(prefix)ffn_norm.weight")
        let gate = try multiply("\(prefix)ffn_gate.weight", inner)
        let up = try multiply("\(prefix)ffn_up.weight", inner)
        let activated = zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
        let down = try multiply("\(prefix)ffn_down.weight", activated)
        states[position] = zip(states[position], down).map { $0 + $1 }
      }
      hidden.append(states[tokens.count - 1])
    }
    let head = configuration.hasTiedEmbedding ? "token_embd.weight" : "output.weight"
    let logits = try states.map { try multiply(head, try normalized($0, "output_norm.weight")) }
    return (logits, hidden)
  }
}
