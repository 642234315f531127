import CTensorKernels
import TensorKernels

/// The final norm and the unembedding.
extension ForwardPass {
  /// Final norm and unembedding of rows firstRow..<firstRow + count of `states`.
  func logits(_ states: HiddenStates, count: Int, into output: UnsafeMutablePointer<Float>) {
    timed(.unembedding) {
      uncappedLogits(states, count: count, into: output)
      model.capLogits(output, count: count * configuration.vocabularySize)
    }
  }

  private func uncappedLogits(_ states: HiddenStates, count: Int, into output: UnsafeMutablePointer<Float>) {
    let size = configuration.hiddenSize
    let vocabulary = configuration.vocabularySize
    let padded = model.unembedding.paddedRows
    states.values.withUnsafeBufferPointer { values in
      model.finalNorm.withUnsafeBufferPointer { weight in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { normalized in
          guard let source = values.baseAddress, let weight = weight.baseAddress,
            let out = normalized.baseAddress
          else { return }
          for row in 0..<count {
            kernels.rms_norm(source + (firstRow + row) * size, weight, size, configuration.normEpsilon, out)
            if model.computePath == .float32 {
              multiplyInFloat32(
                model.unembedding, out, count: 1,
                into: Rows(start: output + row * vocabulary, stride: vocabulary))
            } else {
              kernels.quantize(out, columns: size, into: workspace.hiddenInput.fineView, row: row)
            }
          }
        }
      }
    }
    guard model.computePath != .float32 else { return }
    let input = workspace.hiddenInput.fineView
    let plans = model.unembedding.plans
    func run(_ y: Rows) {
      (count == 1 ? plans.one : plans.many).pieces.withUnsafeBufferPointer { pieces in
        model.pool.run(chunks: pieces.count) { index in
          pieces[index].run(kernels, input, count: Int32(count), y, accumulate: false)
        }
      }
    }
    // Row blocks may end past the vocabulary; only then a wider buffer is needed.
    if padded == vocabulary {
      run(Rows(start: output, stride: vocabulary))
    } else {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: count * padded) { wide in
        guard let wide = wide.baseAddress else { return }
        run(Rows(start: wide, stride: padded))
        for row in 0..<count {
          (output + row * vocabulary).update(from: wide + row * padded, count: vocabulary)
        }
      }
    }
  }
}
