import CTensorKernels
import Checkpoints
import TensorKernels

/// Products in single precision, nothing quantised, nothing fused: the reference path, by a BLAS, and weights of 16 bits.
extension ForwardPass {
  /// y = W x for `count` rows of x.
  func multiplyInFloat32(
    _ projection: Projection, _ x: UnsafePointer<Float>, count: Int, into y: Rows
  ) {
    for part in projection.parts {
      let target = y.start + part.offset
      switch part.weights {
      case .packed: continue
      case .halves(let weights):
        weights.multiply(
          x, count: count, into: target, stride: y.stride, instructionSet: model.instructionSet,
          pool: model.pool)
      case .float32(let weights):
        FloatProduct.multiply(
          weights, rows: part.rows, columns: projection.columns, by: x, count: count, into: target,
          stride: y.stride)
      }
    }
  }

  func normalized(_ weight: [Float]?) -> [Float] {
    let size = configuration.hiddenSize
    guard let weight else {
      return (0..<count).flatMap { row in
        UnsafeBufferPointer(start: workspace.residual[row], count: size)
      }
    }
    return [Float](unsafeUninitializedCapacity: count * size) { output, initialized in
      guard let out = output.baseAddress else { return }
      for row in 0..<count {
        kernels.rms_norm(
          workspace.residual[row], weight, size, configuration.normEpsilon,
          out + row * size)
      }
      initialized = count * size
    }
  }

  func projectInFloat32(_ layer: Transformer.Layer, at index: Int) {
    multiplyInFloat32(
      layer.attention, normalized(layer.attentionNorm), count: count, into: workspace.attention)
    forEachRow { row in
      if let bias = layer.attentionBias {
        let values = workspace.attention[row]
        for i in 0..<bias.count { values[i] += bias[i] }
      }
      rotateAndStore(
        row, layer: index, keyOffset: layer.attention.parts[1].offset,
        valueOffset: layer.attention.parts[2].offset)
    }
  }

  func layerInFloat32(_ index: Int) {
    let layer = model.layers[index]
    projectInFloat32(layer, at: index)
    model.pool.run(chunks: count * configuration.keyValueHeadCount) { task in
      let row = task % count
      attend(row..<row + 1, task / count, layer: index)
    }
    addToResidual(layer.output, workspace.mixed[0], bias: layer.outputBias, norm: layer.postAttentionNorm)
    if let cross = layer.cross { attendToSourceInFloat32(cross, at: index) }
    feedForwardInFloat32(layer)
  }

  func feedForwardInFloat32(_ layer: Transformer.Layer) {
    let width = configuration.feedForwardSize
    multiplyInFloat32(
      layer.gateAndUp, normalized(layer.feedForwardNorm), count: count, into: workspace.gateAndUp)
    var activated = [Float](repeating: 0, count: count * width)
    let activate = activate
    activated.withUnsafeMutableBufferPointer { activated in
      guard let out = activated.baseAddress else { return }
      for row in 0..<count {
        let gate = workspace.gateAndUp[row]
        if let bias = layer.gateAndUpBias {
          for i in 0..<bias.count { gate[i] += bias[i] }
        }
        activate(gate, gate + workspace.feedForwardStride, width, out + row * width)
      }
    }
    addToResidual(layer.down, activated, bias: layer.downBias, norm: layer.postFeedForwardNorm)
  }

  func addToResidual(
    _ projection: Projection, _ x: UnsafePointer<Float>, bias: [Float]? = nil, norm: [Float]?
  ) {
    let size = configuration.hiddenSize
    if configuration.changesBranches {
      multiplyInFloat32(
        projection, x, count: count, into: workspace.branch)
      addBranch(bias: bias, norm: norm)
      return
    }
    var result = [Float](repeating: 0, count: count * size)
    result.withUnsafeMutableBufferPointer { result in
      guard let out = result.baseAddress else { return }
      multiplyInFloat32(projection, x, count: count, into: Rows(start: out, stride: size))
      for row in 0..<count {
        let residual = workspace.residual[row]
        for i in 0..<size { residual[i] += out[row * size + i] }
      }
    }
  }
}
