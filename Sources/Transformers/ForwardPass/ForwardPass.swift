import CTensorKernels
import Checkpoints
import TensorKernels

/// One slice of rows on its way through the layers. Lives only while the model's lock is held.
struct ForwardPass {
  let model: Transformer
  let workspace: Workspace
  let places: UnsafeBufferPointer<RowPlace>
  let firstRow: Int
  let count: Int
  let sourceRuns: [Range<Int>]
  let kernels: ek_kernels
  let configuration: DecoderConfiguration

  /// From so many rows on, work between the products is shared out too; below, a fork costs more than it saves.
  static let rowsWorthAFork = 4

  init(model: Transformer, workspace: Workspace, places: UnsafeBufferPointer<RowPlace>, firstRow: Int) {
    self.model = model
    self.workspace = workspace
    self.places = places
    self.firstRow = firstRow
    self.count = places.count
    self.sourceRuns = Self.rowsBySource(places)
    self.kernels = model.kernels.pointee
    self.configuration = model.configuration
  }

  /// Copies the rows' hidden states in and computes their rotary angles.
  func begin(_ states: HiddenStates) {
    let size = configuration.hiddenSize
    states.values.withUnsafeBufferPointer { values in
      guard let source = values.baseAddress else { return }
      for row in 0..<count {
        workspace.residual[row].update(
          from: source + (firstRow + row) * size, count: size)
      }
    }
    let half = configuration.rotaryDimension / 2
    for row in 0..<count {
      model.rotary.fill(
        position: places[row].position, room: places[row].room,
        cosines: workspace.cosines[row],
        sines: workspace.sines[row])
      model.localRotary?.fill(
        position: places[row].position, room: places[row].room,
        cosines: workspace.cosines[row] + half,
        sines: workspace.sines[row] + half)
    }
  }

  func writeBack(_ states: HiddenStates) {
    let size = configuration.hiddenSize
    states.values.withUnsafeMutableBufferPointer { values in
      guard let target = values.baseAddress else { return }
      for row in 0..<count {
        (target + (firstRow + row) * size).update(
          from: workspace.residual[row], count: size)
      }
    }
  }

  /// Calls `body` for every row, on several threads when there are enough rows.
  func forEachRow(_ body: (Int) -> Void) {
    timed(.rows) {
      if count < Self.rowsWorthAFork {
        for row in 0..<count { body(row) }
      } else {
        let chunk = max(1, count / (model.pool.threadCount * 4))
        model.pool.run(chunks: (count + chunk - 1) / chunk) { index in
          for row in index * chunk..<min((index + 1) * chunk, count) { body(row) }
        }
      }
    }
  }

  /// y (+)= W x for all rows.
  ///
  /// - Parameter offset: Parts of the matrix whose rows begin before it are left out.
  func project(
    _ plans: Projection.Plans, _ x: ek_activations, into y: Rows, accumulate: Bool, from offset: Int = 0
  ) {
    let all = (count == 1 ? plans.one : plans.many).pieces
    timed(.products) {
      (offset > 0 ? all.filter { $0.offset >= offset } : all).withUnsafeBufferPointer { pieces in
        model.pool.run(chunks: pieces.count) { index in
          pieces[index].run(
            kernels, x, count: Int32(count), y, accumulate: accumulate)
        }
      }
    }
  }

  func layer(_ index: Int) {
    let layer = model.layers[index]
    project(layer, at: index)
    timed(.attention) { attend(index) }
    add(layer.output, workspace.mixedInput.view, bias: layer.outputBias, norm: layer.postAttentionNorm)
    if let cross = layer.cross { attendToSource(cross, at: index) }
    feedForward(layer)
  }

  /// residual += W x, or what the family makes of W x first.
  func add(_ projection: Projection, _ x: ek_activations, bias: [Float]? = nil, norm: [Float]?) {
    guard configuration.changesBranches else {
      project(
        projection.plans, x, into: workspace.residual,
        accumulate: true)
      return
    }
    project(
      projection.plans, x, into: workspace.branch, accumulate: false)
    addBranch(bias: bias, norm: norm)
  }

  /// residual += scale · norm(branch + bias), without what is nil.
  func addBranch(bias: [Float]?, norm: [Float]?) {
    let size = configuration.hiddenSize
    let scale = configuration.residualScale
    forEachRow { row in
      let branch = workspace.branch[row]
      let residual = workspace.residual[row]
      if let bias {
        for i in 0..<size { branch[i] += bias[i] }
      }
      if let norm { kernels.rms_norm(branch, norm, size, configuration.normEpsilon, branch) }
      for i in 0..<size { residual[i] += scale * branch[i] }
    }
  }

  /// RMSNorm of the residual stream, quantised for the next product; without weights, the stream itself.
  func normalize(_ weight: [Float]?, into target: ek_activations) {
    let size = configuration.hiddenSize
    guard let weight else {
      forEachRow { row in
        kernels.quantize(
          workspace.residual[row], columns: size, into: target, row: row)
      }
      return
    }
    weight.withUnsafeBufferPointer { weight in
      forEachRow { row in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { normalized in
          guard let out = normalized.baseAddress, let weight = weight.baseAddress else { return }
          kernels.rms_norm(
            workspace.residual[row], weight, size,
            configuration.normEpsilon, out)
          kernels.quantize(out, columns: size, into: target, row: row)
        }
      }
    }
  }
}
