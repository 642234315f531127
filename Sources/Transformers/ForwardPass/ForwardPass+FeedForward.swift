import CTensorKernels
import TensorKernels

/// The second half of a layer.
extension ForwardPass {
  /// gate · up after the gate's activation, for a run of numbers.
  var activate: (UnsafePointer<Float>, UnsafePointer<Float>, Int, UnsafeMutablePointer<Float>) -> Void {
    switch configuration.activation {
    case .gatedSilu: { self.kernels.silu_multiply($0, $1, $2, $3) }
    case .gatedGelu: { self.kernels.gelu_multiply($0, $1, $2, $3) }
    case .relu:
      { values, _, count, output in
        for i in 0..<count { output[i] = max(values[i], 0) }
      }
    }
  }

  /// Down(activation(gate(x)) · up(x)), added to the residual stream. A piece of gate and the same piece of up are
  /// computed together, multiplied and quantised before the next.
  func feedForward(_ layer: Transformer.Layer) {
    let input = workspace.hiddenInput.view
    normalize(layer.feedForwardNorm, into: input)
    let output = workspace.feedForwardInput.view
    let plan = count == 1 ? layer.gateAndUp.plans.one : layer.gateAndUp.plans.many
    let products = workspace.gateAndUp
    let half = workspace.feedForwardStride
    let activate = activate
    let bias = layer.gateAndUpBias
    timed(.products) {
      plan.pieces.withUnsafeBufferPointer { pieces in
        let isGated = configuration.activation.isGated
        let pairs = isGated ? pieces.count / 2 : pieces.count
        model.pool.run(chunks: pairs) { index in
          let gate = pieces[index]
          gate.run(
            kernels, input, count: Int32(count), products, accumulate: false)
          if isGated {
            pieces[pairs + index].run(
              kernels, input, count: Int32(count), products, accumulate: false)
          }
          let runs = gate.stride > 0 ? 4 : 1
          for run in 0..<runs {
            let start = (Int(gate.begin) + run * Int(gate.stride)) * 16
            let length = Int(gate.steps) * 16
            for row in 0..<count {
              let values = products[row] + start
              if let bias {
                for i in 0..<length {
                  values[i] += bias[start + i]
                  values[half + i] += bias[half + start + i]
                }
              }
              activate(values, values + half, length, values)
              kernels.quantize(values, columns: length, into: output, row: row, block: start / 32)
            }
          }
        }
      }
    }
    add(layer.down, output, bias: layer.downBias, norm: layer.postFeedForwardNorm)
  }
}
