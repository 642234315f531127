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
        let isFloat = model.computePath.multipliesFloats
        withUnsafeTemporaryAllocation(of: Float.self, capacity: isFloat ? count * size : size) { normalized in
          guard let source = values.baseAddress, let weight = weight.baseAddress,
            let out = normalized.baseAddress
          else { return }
          for row in 0..<count {
            let out = isFloat ? out + row * size : out
            kernels.rms_norm(source + (firstRow + row) * size, weight, size, configuration.normEpsilon, out)
            if !isFloat {
              kernels.quantize(out, columns: size, into: workspace.hiddenInput.fineView, row: row)
            }
          }
          guard isFloat else { return }
          // As many rows at a time as give what each gives alone.
          let step = min(count, model.invariantBatchLimit)
          for row in stride(from: 0, to: count, by: step) {
            multiplyInFloat32(
              model.unembedding, out + row * size, count: min(step, count - row),
              into: Rows(start: output + row * vocabulary, stride: vocabulary))
          }
        }
      }
    }
    guard !model.computePath.multipliesFloats else { return }
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
