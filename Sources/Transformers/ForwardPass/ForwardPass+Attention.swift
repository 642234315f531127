import CTensorKernels
import RealModule
import TensorKernels

/// Queries, keys and values, and attention of rows to their own sequences.
extension ForwardPass {
  /// Queries, keys and values of every row; keys and values go to the caches.
  ///
  /// - Parameter isPropagation: Leaves the queries out.
  func project(_ layer: Transformer.Layer, at index: Int, isPropagation: Bool = false) {
    let input = workspace.hiddenInput.fineView
    normalize(layer.attentionNorm, into: input)
    project(
      layer.attention.plans, input, into: workspace.attention, accumulate: false,
      from: isPropagation ? layer.attention.parts[1].offset : 0)
    layer.attentionBias?.withUnsafeBufferPointer { bias in
      for row in 0..<count {
        let values = workspace.attention[row]
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
    case .float32, .sixteenBit: projectInFloat32(model.layers[index], at: index)
    }
  }

  func rotateAndStore(_ row: Int, layer: Int, keyOffset: Int, valueOffset: Int, hasQueries: Bool = true) {
    let place = places[row]
    let headSize = configuration.headSize
    let queries = workspace.attention[row]
    let local = model.layers[layer].hasLocalAngles ? configuration.rotaryDimension / 2 : 0
    let cosines = workspace.cosines[row] + local
    let sines = workspace.sines[row] + local
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
      let lane = place.position % 16
      let block = place.keys(layer: layer, head: head) + place.position / 16 * 16 * place.layout.rowBytes
      let row = place.values(layer: layer, head: head) + place.position * place.layout.rowBytes
      switch place.layout.storage {
      case .single:
        let stored = block.assumingMemoryBound(to: Float.self) + lane
        for d in 0..<headSize { stored[16 * d] = key[d] }
        row.assumingMemoryBound(to: Float.self).update(from: value, count: headSize)
      case .half:
        withUnsafeTemporaryAllocation(of: UInt16.self, capacity: headSize) { halves in
          guard let half = halves.baseAddress else { return }
          kernels.store_half(key, headSize, half)
          let stored = block.assumingMemoryBound(to: UInt16.self) + lane
          for d in 0..<headSize { stored[16 * d] = half[d] }
        }
        kernels.store_half(value, headSize, row.assumingMemoryBound(to: UInt16.self))
      case .bytes:
        var scale: Float = 0
        withUnsafeTemporaryAllocation(of: Int8.self, capacity: headSize) { quants in
          guard let quant = quants.baseAddress else { return }
          kernels.store_bytes(key, headSize, quant, &scale)
          let stored = block.assumingMemoryBound(to: Int8.self) + lane
          for d in 0..<headSize { stored[16 * d] = quant[d] }
        }
        block.storeBytes(
          of: scale, toByteOffset: 16 * headSize + lane * MemoryLayout<Float>.size, as: Float.self)
        kernels.store_bytes(value, headSize, row.assumingMemoryBound(to: Int8.self), &scale)
        row.storeBytes(of: scale, toByteOffset: headSize, as: Float.self)
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
  func attend(_ layer: Int) {
    let heads = configuration.keyValueHeadCount
    let width = configuration.headCount / heads * configuration.headSize
    let target = workspace.mixedInput.view
    let quantizesHeads = width % 32 == 0
    func run(_ rows: Range<Int>, _ head: Int) {
      attend(rows, head, layer: layer)
      for row in rows where quantizesHeads {
        kernels.quantize(
          workspace.mixed[row] + head * width, columns: width, into: target,
          row: row,
          block: head * width / 32)
      }
    }
    // A single token's heads are worth a fork only when there is much to attend to, and rarely share out evenly.
    if count == 1, places[0].position < 48 {
      for head in 0..<heads { run(0..<1, head) }
    } else if count == 1, heads % model.pool.threadCount != 0 {
      attendInHalves(layer)
      if quantizesHeads {
        kernels.quantize(workspace.mixed[0], columns: workspace.mixed.stride, into: target, row: 0)
      }
    } else {
      // All rows of one head after the other: rows of one sequence find its keys and values in the caches.
      let groups = sharingRows(layer)
      model.pool.run(chunks: groups.count * heads) { task in
        run(groups[task % groups.count], task / groups.count)
      }
    }
    if !quantizesHeads {
      for row in 0..<count {
        kernels.quantize(
          workspace.mixed[row], columns: workspace.mixed.stride, into: target,
          row: row)
      }
    }
  }

  /// Rows one behind another that see the same keys and values from the same position on, at most as many as leave
  /// each thread eight pieces of work.
  private func sharingRows(_ layer: Int) -> [Range<Int>] {
    let most = max(1, min(8, count * configuration.keyValueHeadCount / (8 * model.pool.threadCount)))
    var groups: [Range<Int>] = []
    var first = 0
    for row in 1...count {
      if row < count, row - first < most,
        places[row].keys(layer: layer, head: 0) == places[first].keys(layer: layer, head: 0),
        visible(places[row], layer: layer).start == visible(places[first], layer: layer).start
      {
        continue
      }
      groups.append(first..<row)
      first = row
    }
    return groups
  }

  /// Attention of rows that see the same keys and values, to the bit what each gets alone.
  func attend(_ rows: Range<Int>, _ head: Int, layer: Int) {
    let group = configuration.headCount / configuration.keyValueHeadCount
    let sizes = rows.map { row in
      group * roundedUp(places[row].position + 1 - visible(places[row], layer: layer).start, to: 16)
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: sizes.reduce(0, +)) { scores in
      guard var next = scores.baseAddress else { return }
      let attentions = zip(rows, sizes).map { row, size in
        defer { next += size }
        return attention(row, head, layer: layer, scores: next)
      }
      kernels.score_rows(attentions, Int32(attentions.count))
      for attention in attentions { capScores(attention, 0..<Int(attention.positions)) }
      kernels.mix_rows(attentions, Int32(attentions.count))
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
        scores[position] = cap * Float.tanh(scores[position] / cap)
      }
    }
  }

  /// Attention of a single token, every head cut in two: first by positions, then by the numbers of the output.
  private func attendInHalves(_ layer: Int) {
    let heads = configuration.keyValueHeadCount
    let positions = Int32(places[0].position + 1 - visible(places[0], layer: layer).start)
    let size = configuration.headCount / heads * roundedUp(Int(positions), to: 16)
    let middle = roundedUp(Int(positions) / 2, to: 16)
    let half = configuration.headSize / 64 * 32
    let scratch = workspace.scores(3 * heads * size)
    model.pool.run(chunks: 2 * heads) { task in
      var attention = attention(0, task / 2, layer: layer, scores: scratch + task / 2 * size)
      let range = task % 2 == 0 ? (0, Int32(middle)) : (Int32(middle), positions)
      kernels.score(&attention, range.0, range.1)
      capScores(attention, Int(range.0)..<max(Int(range.0), Int(range.1)))
    }
    model.pool.run(chunks: 2 * heads) { task in
      var attention = attention(0, task / 2, layer: layer, scores: scratch + task / 2 * size)
      let range = task % 2 == 0 ? (0, Int32(half)) : (Int32(half), attention.head_size)
      kernels.mix(&attention, scratch + (heads + task) * size, range.0, range.1)
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
    let offset = start * place.layout.rowBytes
    return ek_attention(
      queries: workspace.attention[row] + head * width,
      keys: place.keys(layer: layer, head: head) + offset,
      values: place.values(layer: layer, head: head) + offset,
      output: workspace.mixed[row] + head * width,
      scores: scores, group: Int32(group), head_size: Int32(configuration.headSize),
      positions: Int32(place.position + 1 - start), storage: place.layout.storage.kernelNumber,
      cold: count == 1, skip: Int32(first - start),
      bias: model.relativeBias?.row(head: head, position: place.position), bias_stride: 0)
  }
}
