import CTensorKernels
import Checkpoints
import Foundation
import TensorKernels

/// A row as the forward pass uses it: where its sequence's cache lies and its place there.
struct RowPlace {
  var memory: UnsafeMutableRawPointer
  var layout: KeyValueCache.Layout
  var position: Int
  /// Tokens that the sequence may have in all.
  var room = 0
  /// Keys and values of the encoder's output, and its length.
  var sourceMemory: UnsafeMutableRawPointer?
  var sourceLayout = KeyValueCache.Layout()
  var sourceCount = 0

  /// The source in a form that asks the same questions.
  var source: RowPlace? {
    sourceMemory.map { RowPlace(memory: $0, layout: sourceLayout, position: sourceCount) }
  }

  func keys(layer: Int, head: Int) -> UnsafeMutableRawPointer {
    memory + layer * layout.layerBytes + head * layout.headBytes
  }

  func values(layer: Int, head: Int) -> UnsafeMutableRawPointer {
    memory + layer * layout.layerBytes + (layout.headCount + head) * layout.headBytes
  }
}

extension Transformer {
  /// Runs layers over the rows, in slices of as many as the workspace holds.
  public func advance(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>
  ) throws(DecoderError) {
    try forEachSlice(states, rows: rows, layers: range) { pass in
      for layer in range {
        switch computePath {
        case .quantized, .fourBit: pass.layer(layer)
        case .float32: pass.layerInFloat32(layer)
        }
      }
      pass.writeBack(states)
    }
  }

  /// Writes the rows' keys and values of layers, and nothing else of these.
  public func propagate(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>
  ) throws(DecoderError) {
    try forEachSlice(states, rows: rows, layers: range) { pass in
      for layer in range { pass.keysAndValues(layer) }
    }
  }

  /// Runs `body` on at most ``Workspace/maximumRows`` rows at a time, then notes their positions as filled. A later
  /// slice may read what an earlier one wrote, in every layer.
  private func forEachSlice(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>, _ body: (ForwardPass) -> Void
  ) throws(DecoderError) {
    try check(states, rows: rows, layers: range)
    workspace.exclusively {
      for start in stride(from: 0, to: rows.count, by: Workspace.maximumRows) {
        let slice = start..<min(start + Workspace.maximumRows, rows.count)
        workspace.reserve(slice.count)
        var places: [RowPlace] = []
        places.reserveCapacity(slice.count)
        for row in rows[slice] {
          guard let memory = row.cache.memory else { continue }
          var place = RowPlace(memory: memory, layout: row.cache.layout, position: row.position)
          if let source = row.cache.source {
            place.sourceMemory = source.memory
            place.sourceLayout = source.layout
            place.sourceCount = source.capacity
          }
          place.room = row.cache.capacity
          places.append(place)
        }
        places.withUnsafeBufferPointer { places in
          let pass = ForwardPass(model: self, workspace: workspace, places: places, firstRow: start)
          pass.begin(states)
          body(pass)
        }
        for row in rows[slice] {
          for layer in range { row.cache.filled[layer] = row.position + 1 }
        }
      }
    }
  }

  /// Final norm and unembedding of rows.
  public func logits(
    of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float]
  ) throws(DecoderError) {
    guard range.lowerBound >= 0, range.upperBound <= states.count,
      states.hiddenSize == configuration.hiddenSize
    else {
      throw .rowCount(expected: range.upperBound, found: states.count)
    }
    let vocabulary = configuration.vocabularySize
    if logits.count != range.count * vocabulary {
      logits = [Float](repeating: 0, count: range.count * vocabulary)
    }
    logits.withUnsafeMutableBufferPointer { logits in
      guard let output = logits.baseAddress else { return }
      workspace.exclusively {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Workspace.maximumHeadRows) {
          let rows = start..<min(start + Workspace.maximumHeadRows, range.upperBound)
          workspace.reserve(rows.count)
          let pass = ForwardPass(
            model: self, workspace: workspace, places: UnsafeBufferPointer(start: nil, count: 0),
            firstRow: start)
          pass.logits(states, count: rows.count, into: output + (start - range.lowerBound) * vocabulary)
        }
      }
    }
  }
}

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
        (workspace.residual.start + row * workspace.residualStride).update(
          from: source + (firstRow + row) * size, count: size)
      }
    }
    let half = configuration.rotaryDimension / 2
    for row in 0..<count {
      model.rotary.fill(
        position: places[row].position, room: places[row].room,
        cosines: workspace.cosines.start + row * workspace.rotaryStride,
        sines: workspace.sines.start + row * workspace.rotaryStride)
      model.localRotary?.fill(
        position: places[row].position, room: places[row].room,
        cosines: workspace.cosines.start + row * workspace.rotaryStride + half,
        sines: workspace.sines.start + row * workspace.rotaryStride + half)
    }
  }

  func writeBack(_ states: HiddenStates) {
    let size = configuration.hiddenSize
    states.values.withUnsafeMutableBufferPointer { values in
      guard let target = values.baseAddress else { return }
      for row in 0..<count {
        (target + (firstRow + row) * size).update(
          from: workspace.residual.start + row * workspace.residualStride, count: size)
      }
    }
  }

  /// Calls `body` for every row, on several threads when there are enough rows.
  func forEachRow(_ body: (Int) -> Void) {
    if count < Self.rowsWorthAFork {
      for row in 0..<count { body(row) }
    } else {
      let chunk = max(1, count / (model.pool.threadCount * 4))
      model.pool.run(chunks: (count + chunk - 1) / chunk) { index in
        for row in index * chunk..<min((index + 1) * chunk, count) { body(row) }
      }
    }
  }

  /// y (+)= W x for all rows.
  ///
  /// - Parameter offset: Parts of the matrix whose rows begin before it are left out.
  func project(
    _ plans: Projection.Plans, _ x: ek_activations, into y: UnsafeMutablePointer<Float>, stride: Int,
    accumulate: Bool, from offset: Int = 0
  ) {
    let all = (count == 1 ? plans.one : plans.many).pieces
    (offset > 0 ? all.filter { $0.offset >= offset } : all).withUnsafeBufferPointer { pieces in
      model.pool.run(chunks: pieces.count) { index in
        pieces[index].run(
          kernels, x, count: Int32(count), y, stride: stride, accumulate: accumulate)
      }
    }
  }

  func layer(_ index: Int) {
    let layer = model.layers[index]
    project(layer, at: index)
    attend(index)
    add(layer.output, workspace.mixedInput.view, bias: layer.outputBias, norm: layer.postAttentionNorm)
    if let cross = layer.cross { attendToSource(cross, at: index) }
    feedForward(layer)
  }

  /// residual += W x, or what the family makes of W x first.
  func add(_ projection: Projection, _ x: ek_activations, bias: [Float]? = nil, norm: [Float]?) {
    guard configuration.changesBranches else {
      project(
        projection.plans, x, into: workspace.residual.start, stride: workspace.residualStride,
        accumulate: true)
      return
    }
    project(
      projection.plans, x, into: workspace.branch.start, stride: workspace.residualStride, accumulate: false)
    addBranch(bias: bias, norm: norm)
  }

  /// residual += scale · norm(branch + bias), without what is nil.
  func addBranch(bias: [Float]?, norm: [Float]?) {
    let size = configuration.hiddenSize
    let scale = configuration.residualScale
    forEachRow { row in
      let branch = workspace.branch.start + row * workspace.residualStride
      let residual = workspace.residual.start + row * workspace.residualStride
      if let bias {
        for i in 0..<size { branch[i] += bias[i] }
      }
      if let norm { kernels.rms_norm(branch, norm, size, configuration.normEpsilon, branch) }
      for i in 0..<size { residual[i] += scale * branch[i] }
    }
  }

  /// Queries, keys and values of every row; keys and values go to the caches.
  ///
  /// - Parameter isPropagation: Leaves the queries out.
  func project(_ layer: Transformer.Layer, at index: Int, isPropagation: Bool = false) {
    let input = workspace.hiddenInput.fineView
    normalize(layer.attentionNorm, into: input)
    project(
      layer.attention.plans, input, into: workspace.attention.start,
      stride: workspace.attentionStride, accumulate: false,
      from: isPropagation ? layer.attention.parts[1].offset : 0)
    layer.attentionBias?.withUnsafeBufferPointer { bias in
      for row in 0..<count {
        let values = workspace.attention.start + row * workspace.attentionStride
        for i in 0..<bias.count { values[i] += bias[i] }
      }
    }
    forEachRow { row in
      rotateAndStore(
        row, layer: index, keyOffset: layer.attention.parts[1].offset,
        valueOffset: layer.attention.parts[2].offset, hasQueries: !isPropagation)
    }
  }

  /// State propagation: the keys and values alone.
  func keysAndValues(_ index: Int) {
    switch model.computePath {
    case .quantized, .fourBit: project(model.layers[index], at: index, isPropagation: true)
    case .float32: projectInFloat32(model.layers[index], at: index)
    }
  }

  /// RMSNorm of the residual stream, quantised for the next product; without weights, the stream itself.
  func normalize(_ weight: [Float]?, into target: ek_activations) {
    let size = configuration.hiddenSize
    guard let weight else {
      forEachRow { row in
        kernels.quantize(
          workspace.residual.start + row * workspace.residualStride, columns: size, into: target, row: row)
      }
      return
    }
    weight.withUnsafeBufferPointer { weight in
      forEachRow { row in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { normalized in
          guard let out = normalized.baseAddress, let weight = weight.baseAddress else { return }
          kernels.rms_norm(
            workspace.residual.start + row * workspace.residualStride, weight, size,
            configuration.normEpsilon, out)
          kernels.quantize(out, columns: size, into: target, row: row)
        }
      }
    }
  }

  func rotateAndStore(_ row: Int, layer: Int, keyOffset: Int, valueOffset: Int, hasQueries: Bool = true) {
    let place = places[row]
    let headSize = configuration.headSize
    let queries = workspace.attention.start + row * workspace.attentionStride
    let local = model.layers[layer].hasLocalAngles ? configuration.rotaryDimension / 2 : 0
    let cosines = workspace.cosines.start + row * workspace.rotaryStride + local
    let sines = workspace.sines.start + row * workspace.rotaryStride + local
    let queryHeads = hasQueries ? configuration.headCount : 0
    if hasQueries { normalizeHeads(queries, queryHeads, model.layers[layer].queryNorm) }
    normalizeHeads(queries + keyOffset, configuration.keyValueHeadCount, model.layers[layer].keyNorm)
    if model.layers[layer].isRotated {
      let interleaved = configuration.rotaryLayout == .interleaved
      for (start, heads) in [(0, queryHeads), (keyOffset, configuration.keyValueHeadCount)] where heads > 0 {
        kernels.rotate(
          queries + start, Int32(heads), Int32(headSize), Int32(configuration.rotaryDimension), cosines,
          sines,
          interleaved)
      }
    }
    if hasQueries { kernels.scale(queries, queryHeads * headSize, configuration.queryScale) }
    store(place, layer: layer, keys: queries + keyOffset, values: queries + valueOffset)
  }

  /// Writes one token's keys and values, (headCount, headSize) each, to its place in a cache.
  func store(
    _ place: RowPlace, layer: Int, keys: UnsafePointer<Float>, values: UnsafePointer<Float>
  ) {
    let headSize = configuration.headSize
    for head in 0..<configuration.keyValueHeadCount {
      let key = keys + head * headSize
      let value = values + head * headSize
      let keyBase = place.position / 16 * 16 * headSize + place.position % 16
      let valueBase = place.position * headSize
      if place.layout.bytesPerNumber == MemoryLayout<Float>.size {
        let stored = place.keys(layer: layer, head: head).assumingMemoryBound(to: Float.self) + keyBase
        for d in 0..<headSize { stored[16 * d] = key[d] }
        let storedValues =
          place.values(layer: layer, head: head).assumingMemoryBound(to: Float.self) + valueBase
        storedValues.update(from: value, count: headSize)
      } else {
        withUnsafeTemporaryAllocation(of: UInt16.self, capacity: headSize) { halves in
          guard let half = halves.baseAddress else { return }
          kernels.store_half(key, headSize, half)
          let stored = place.keys(layer: layer, head: head).assumingMemoryBound(to: UInt16.self) + keyBase
          for d in 0..<headSize { stored[16 * d] = half[d] }
        }
        kernels.store_half(
          value, headSize,
          place.values(layer: layer, head: head).assumingMemoryBound(to: UInt16.self) + valueBase)
      }
    }
  }

  private func normalizeHeads(_ heads: UnsafeMutablePointer<Float>, _ count: Int, _ weight: [Float]?) {
    guard let weight else { return }
    if configuration.queryKeyNorm == .whole {
      kernels.rms_norm(heads, weight, count * configuration.headSize, configuration.normEpsilon, heads)
      return
    }
    for head in 0..<count {
      let values = heads + head * configuration.headSize
      kernels.rms_norm(values, weight, configuration.headSize, configuration.normEpsilon, values)
    }
  }

  /// Attention of every row over its sequence up to itself; the result is quantised for the output product.
  private func attend(_ layer: Int) {
    let heads = configuration.keyValueHeadCount
    let width = configuration.headCount / heads * configuration.headSize
    let target = workspace.mixedInput.view
    let quantizesHeads = width % 32 == 0
    func run(_ row: Int, _ head: Int) {
      attend(row, head, layer: layer)
      if quantizesHeads {
        kernels.quantize(
          workspace.mixed.start + row * workspace.mixedStride + head * width, columns: width, into: target,
          row: row,
          block: head * width / 32)
      }
    }
    // A single token's heads are worth a fork only when there is much to attend to, and rarely share out evenly.
    if count == 1, places[0].position < 48 {
      for head in 0..<heads { run(0, head) }
    } else if count == 1, heads % model.pool.threadCount != 0 {
      attendInHalves(layer)
      if quantizesHeads {
        kernels.quantize(workspace.mixed.start, columns: workspace.mixedStride, into: target, row: 0)
      }
    } else {
      // All rows of one head after the other: rows of one sequence find its keys and values in the caches.
      model.pool.run(chunks: count * heads) { task in run(task % count, task / count) }
    }
    if !quantizesHeads {
      for row in 0..<count {
        kernels.quantize(
          workspace.mixed.start + row * workspace.mixedStride, columns: workspace.mixedStride, into: target,
          row: row)
      }
    }
  }

  func attend(_ row: Int, _ head: Int, layer: Int) {
    let group = configuration.headCount / configuration.keyValueHeadCount
    let isFloat = model.computePath == .float32
    let padded = roundedUp(places[row].position + 1 - visible(places[row], layer: layer).start, to: 16)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: group * padded) { scores in
      guard let scores = scores.baseAddress else { return }
      var attention = attention(row, head, layer: layer, scores: scores)
      kernels.score(&attention, 0, attention.positions, isFloat)
      capScores(attention, 0..<Int(attention.positions))
      kernels.mix(&attention, scores, 0, attention.head_size, isFloat)
    }
  }

  /// s becomes c tanh(s / c), where the family has such a cap. Scores that get no weight stay as they are.
  private func capScores(_ attention: ek_attention, _ range: Range<Int>) {
    guard let cap = configuration.attentionLogitCap else { return }
    let stride = roundedUp(Int(attention.positions), to: 16)
    for head in 0..<Int(attention.group) {
      let scores = attention.scores + head * stride
      for position in max(range.lowerBound, Int(attention.skip))..<max(range.upperBound, Int(attention.skip))
      {
        scores[position] = cap * tanh(scores[position] / cap)
      }
    }
  }

  /// Attention of a single token, every head cut in two: first by positions, then by the numbers of the output.
  private func attendInHalves(_ layer: Int) {
    let heads = configuration.keyValueHeadCount
    let isFloat = model.computePath == .float32
    let positions = Int32(places[0].position + 1 - visible(places[0], layer: layer).start)
    let size = configuration.headCount / heads * roundedUp(Int(positions), to: 16)
    let middle = roundedUp(Int(positions) / 2, to: 16)
    let half = configuration.headSize / 64 * 32
    let scratch = workspace.scores(3 * heads * size)
    model.pool.run(chunks: 2 * heads) { task in
      var attention = attention(0, task / 2, layer: layer, scores: scratch + task / 2 * size)
      let range = task % 2 == 0 ? (0, Int32(middle)) : (Int32(middle), positions)
      kernels.score(&attention, range.0, range.1, isFloat)
      capScores(attention, Int(range.0)..<max(Int(range.0), Int(range.1)))
    }
    model.pool.run(chunks: 2 * heads) { task in
      var attention = attention(0, task / 2, layer: layer, scores: scratch + task / 2 * size)
      let range = task % 2 == 0 ? (0, Int32(half)) : (Int32(half), attention.head_size)
      kernels.mix(&attention, scratch + (heads + task) * size, range.0, range.1, isFloat)
    }
  }

  /// The first position that a layer sees, and the one its block of keys begins with; a window may begin between two.
  private func visible(_ place: RowPlace, layer: Int) -> (start: Int, first: Int) {
    let first = max(0, place.position + 1 - (model.layers[layer].window ?? .max))
    return (first / 16 * 16, first)
  }

  private func attention(
    _ row: Int, _ head: Int, layer: Int, scores: UnsafeMutablePointer<Float>
  ) -> ek_attention {
    let place = places[row]
    let group = configuration.headCount / configuration.keyValueHeadCount
    let width = group * configuration.headSize
    let (start, first) = visible(place, layer: layer)
    let offset = start * configuration.headSize * place.layout.bytesPerNumber
    return ek_attention(
      queries: workspace.attention.start + row * workspace.attentionStride + head * width,
      keys: place.keys(layer: layer, head: head) + offset,
      values: place.values(layer: layer, head: head) + offset,
      output: workspace.mixed.start + row * workspace.mixedStride + head * width,
      scores: scores, group: Int32(group), head_size: Int32(configuration.headSize),
      positions: Int32(place.position + 1 - start), cold: count == 1, skip: Int32(first - start),
      bias: model.relativeBias?.row(head: head, position: place.position), bias_stride: 0)
  }

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
    let base = workspace.gateAndUp.start
    let half = workspace.feedForwardStride
    let activate = activate
    let bias = layer.gateAndUpBias
    plan.pieces.withUnsafeBufferPointer { pieces in
      let isGated = configuration.activation.isGated
      let pairs = isGated ? pieces.count / 2 : pieces.count
      model.pool.run(chunks: pairs) { index in
        let gate = pieces[index]
        gate.run(
          kernels, input, count: Int32(count), base, stride: workspace.gateAndUpStride, accumulate: false)
        if isGated {
          pieces[pairs + index].run(
            kernels, input, count: Int32(count), base, stride: workspace.gateAndUpStride, accumulate: false)
        }
        let runs = gate.stride > 0 ? 4 : 1
        for run in 0..<runs {
          let start = (Int(gate.begin) + run * Int(gate.stride)) * 16
          let length = Int(gate.steps) * 16
          for row in 0..<count {
            let values = base + row * workspace.gateAndUpStride + start
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
    add(layer.down, output, bias: layer.downBias, norm: layer.postFeedForwardNorm)
  }

  /// Final norm and unembedding of rows firstRow..<firstRow + count of `states`.
  func logits(_ states: HiddenStates, count: Int, into output: UnsafeMutablePointer<Float>) {
    uncappedLogits(states, count: count, into: output)
    model.capLogits(output, count: count * configuration.vocabularySize)
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
                model.unembedding, out, count: 1, into: output + row * vocabulary, stride: vocabulary)
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
    func run(_ y: UnsafeMutablePointer<Float>, stride: Int) {
      (count == 1 ? plans.one : plans.many).pieces.withUnsafeBufferPointer { pieces in
        model.pool.run(chunks: pieces.count) { index in
          pieces[index].run(kernels, input, count: Int32(count), y, stride: stride, accumulate: false)
        }
      }
    }
    // Row blocks may end past the vocabulary; only then a wider buffer is needed.
    if padded == vocabulary {
      run(output, stride: vocabulary)
    } else {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: count * padded) { wide in
        guard let wide = wide.baseAddress else { return }
        run(wide, stride: padded)
        for row in 0..<count {
          (output + row * vocabulary).update(from: wide + row * padded, count: vocabulary)
        }
      }
    }
  }
}
