import CTensorKernels
import Checkpoints
import TensorKernels

/// An encoder's layers, and attention of a decoder's rows to what an encoder has read.
extension ForwardPass {
  /// Queries of one task of ``attendBothWays()``: enough to share the keys' way through the caches.
  private static let encoderRows = 48
  /// Queries of one task of ``attendToSource(at:)``.
  private static let sourceRows = 12

  func encoderLayer(_ index: Int) {
    let layer = model.layers[index]
    switch model.computePath {
    case .quantized, .fourBit:
      project(layer, at: 0)
      attendBothWays()
      quantizeMixed()
      add(layer.output, workspace.mixedInput.view, norm: nil)
      feedForward(layer)
    case .float32, .sixteenBit:
      projectInFloat32(layer, at: 0)
      attendBothWays()
      addToResidual(layer.output, workspace.mixed[0], norm: nil)
      feedForwardInFloat32(layer)
    }
  }

  /// Attention of every row to every row.
  private func attendBothWays() {
    let heads = configuration.headCount
    let size = configuration.headSize
    let tasks = (count + Self.encoderRows - 1) / Self.encoderRows
    let padded = roundedUp(count, to: 16)
    model.pool.run(chunks: heads * tasks) { task in
      let (head, part) = (task / tasks, task % tasks)
      let first = part * Self.encoderRows
      let rows = min(Self.encoderRows, count - first)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: rows * (2 * size + padded)) { memory in
        guard let queries = memory.baseAddress else { return }
        let output = queries + rows * size
        // From the last row to the first, so that each row's bias begins one entry after that of the row before.
        for i in 0..<rows {
          (queries + i * size).update(
            from: workspace.attention[first + rows - 1 - i] + head
              * size,
            count: size)
        }
        var attention = ek_attention(
          queries: queries, keys: places[0].keys(layer: 0, head: head),
          values: places[0].values(layer: 0, head: head), output: output, scores: output + rows * size,
          group: Int32(rows), head_size: Int32(size), positions: Int32(count),
          storage: places[0].layout.storage.kernelNumber, cold: false, skip: 0,
          bias: model.relativeBias?.row(head: head, position: first + rows - 1), bias_stride: 1)
        attend(&attention)
        for i in 0..<rows {
          (workspace.mixed[first + rows - 1 - i] + head * size).update(
            from: output + i * size, count: size)
        }
      }
    }
  }

  private func attend(_ attention: inout ek_attention) {
    kernels.score(&attention, 0, attention.positions)
    kernels.mix(&attention, attention.scores, 0, attention.head_size)
  }

  private func quantizeMixed() {
    let target = workspace.mixedInput.view
    forEachRow { row in
      kernels.quantize(
        workspace.mixed[row], columns: workspace.mixed.stride, into: target,
        row: row)
    }
  }

  /// Projects the encoder's output, this pass's residual stream after its norm, to keys and values of each layer of
  /// `decoder`.
  func storeSource(of decoder: Transformer, _ targets: [RowPlace]) {
    let output = model.computePath.multipliesFloats ? normalized(model.finalNorm) : []
    if output.isEmpty { normalize(model.finalNorm, into: workspace.hiddenInput.view) }
    targets.withUnsafeBufferPointer { targets in
      for (index, layer) in decoder.layers.enumerated() {
        guard let projection = layer.cross?.keysAndValues else { continue }
        if output.isEmpty {
          project(
            projection.plans, workspace.hiddenInput.view, into: workspace.attention, accumulate: false)
        } else {
          multiplyInFloat32(
            projection, output, count: count, into: workspace.attention)
        }
        forEachRow { row in
          let keys = workspace.attention[row]
          store(targets[row], layer: index, keys: keys, values: keys + projection.parts[1].offset)
        }
      }
    }
  }

  /// Attention of every row to the source of its sequence; the result is added to the residual stream.
  func attendToSource(_ cross: Transformer.Cross, at index: Int) {
    normalize(cross.norm, into: workspace.hiddenInput.view)
    project(
      cross.queries.plans, workspace.hiddenInput.view, into: workspace.attention, accumulate: false)
    attendToSource(at: index)
    quantizeMixed()
    add(cross.output, workspace.mixedInput.view, norm: nil)
  }

  func attendToSourceInFloat32(_ cross: Transformer.Cross, at index: Int) {
    multiplyInFloat32(
      cross.queries, normalized(cross.norm), count: count, into: workspace.attention)
    attendToSource(at: index)
    addToResidual(cross.output, workspace.mixed[0], norm: nil)
  }

  /// Rows side by side that share a source, and so its keys' and values' way through the caches; few enough to leave
  /// several threads some work.
  static func rowsBySource(_ places: UnsafeBufferPointer<RowPlace>) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    for row in places.indices where places[row].sourceMemory != nil {
      if let last = runs.last, last.count < sourceRows,
        places[last.lowerBound].sourceMemory == places[row].sourceMemory
      {
        runs[runs.count - 1] = last.lowerBound..<row + 1
      } else {
        runs.append(row..<row + 1)
      }
    }
    return runs
  }

  private func attendToSource(at layer: Int) {
    let heads = configuration.headCount
    model.pool.run(chunks: sourceRuns.count * heads) { task in
      attendToSource(sourceRuns[task / heads], head: task % heads, layer: layer)
    }
  }

  private func attendToSource(_ rows: Range<Int>, head: Int, layer: Int) {
    guard let source = places[rows.lowerBound].source else { return }
    let size = configuration.headSize
    let padded = roundedUp(source.position, to: 16)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.count * (2 * size + padded)) { memory in
      guard let queries = memory.baseAddress else { return }
      let output = queries + rows.count * size
      for (i, row) in rows.enumerated() {
        (queries + i * size).update(
          from: workspace.attention[row] + head * size, count: size)
      }
      var attention = ek_attention(
        queries: queries, keys: source.keys(layer: layer, head: head),
        values: source.values(layer: layer, head: head), output: output, scores: output + rows.count * size,
        group: Int32(rows.count), head_size: Int32(size), positions: Int32(source.position),
        storage: source.layout.storage.kernelNumber, cold: count == 1, skip: 0, bias: nil, bias_stride: 0)
      attend(&attention)
      for (i, row) in rows.enumerated() {
        (workspace.mixed[row] + head * size).update(
          from: output + i * size, count: size)
      }
    }
  }
}
