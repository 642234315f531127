import CTensorKernels
import TensorKernels

/// Heads of the caller's own, on the path that the model's own weights take: 8 bits, 16, or single precision on the
/// reference path.
extension Transformer {
  /// Packs a map on the path that the model's own weights take.
  public func makeMap(_ weights: [Float]) throws(DecoderError) -> SideMatrix {
    try checkMap(weights)
    let size = configuration.hiddenSize
    do {
      return try weights.withUnsafeBytes {
        try makeMatrix(
          rows: size, columns: weights.count / size, format: .f32, source: $0, input: .normalized)
      }
    } catch {
      throw DecoderError(error)
    }
  }

  /// Gathers and packs the rows of these tokens.
  public func makeUnembedding(of tokens: [TokenID]) throws(DecoderError) -> SideMatrix {
    try check(tokens)
    let format = unembeddingRows.format
    let rowBytes = configuration.hiddenSize / format.blockLength * format.bytesPerBlock
    var gathered: [UInt8] = []
    gathered.reserveCapacity(tokens.count * rowBytes)
    unembeddingRows.withUnsafeBytes { stored in
      for token in tokens { gathered += stored[token * rowBytes..<(token + 1) * rowBytes] }
    }
    do {
      return try gathered.withUnsafeBytes {
        try makeMatrix(
          rows: tokens.count, columns: configuration.hiddenSize, format: format, source: $0, input: .finalNorm
        )
      }
    } catch {
      throw DecoderError(error)
    }
  }

  private func makeMatrix(
    rows: Int, columns: Int, format: BlockFormat, source: UnsafeRawBufferPointer, input: SideMatrix.Input
  ) throws(KernelError) -> SideMatrix {
    let weights: Projection.Weights
    switch computePath {
    case .quantized, .fourBit:
      weights = .packed(
        try PackedMatrix(rows: rows, columns: columns, format: format, source: source, pool: pool))
    case .sixteenBit:
      weights = .halves(
        try HalfMatrix(rows: rows, columns: columns, format: format, source: source, pool: pool))
    case .float32:
      weights = .float32(
        [Float](unsafeUninitializedCapacity: rows * columns) { output, count in
          count = format.dequantize(source, into: output)
        })
    }
    let projection = Projection(
      parts: [.init(weights: weights, offset: 0, rows: rows)], columns: columns,
      paddedRows: roundedUp(rows, to: 32), threads: pool.threadCount,
      instructionSet: instructionSet, paired: false)
    return SideMatrix(
      rows: rows, byteCount: projection.byteCount, columns: columns, input: input,
      storage: .projection(projection))
  }

  /// The product by the model's kernels; logits are capped where the model's are.
  public func product(
    _ matrix: SideMatrix, of states: [Float], into output: inout [Float]
  ) throws(DecoderError) {
    try uncappedProduct(matrix, of: states, into: &output)
    guard matrix.input == .finalNorm else { return }
    output.withUnsafeMutableBufferPointer { output in
      if let start = output.baseAddress { capLogits(start, count: output.count) }
    }
  }

  private func uncappedProduct(
    _ matrix: SideMatrix, of states: [Float], into output: inout [Float]
  ) throws(DecoderError) {
    let size = configuration.hiddenSize
    let columns = matrix.columns
    let count = try rowCount(states, size: columns)
    guard case .projection(let projection) = matrix.storage, projection.columns == columns else {
      throw .resources("a matrix of this model; this one was made by another")
    }
    let input: [Float]
    switch matrix.input {
    case .normalized: input = states.rowsDividedByRootMeanSquare(size: size)
    case .finalNorm:
      input = [Float](unsafeUninitializedCapacity: states.count) { output, filled in
        if let out = output.baseAddress {
          states.withUnsafeBufferPointer { states in
            for row in 0..<count {
              guard let from = states.baseAddress else { return }
              kernels.pointee.rms_norm(
                from + row * size, finalNorm, size, configuration.normEpsilon, out + row * size)
            }
          }
        }
        filled = count * size
      }
    }
    if output.count != count * matrix.rows {
      output = [Float](repeating: 0, count: count * matrix.rows)
    }
    guard count > 0, matrix.rows > 0 else { return }
    switch computePath {
    case .float32:
      for part in projection.parts {
        guard case .float32(let weights) = part.weights else { continue }
        FloatProduct.multiply(
          weights, rows: part.rows, columns: columns, by: input, count: count, into: &output,
          stride: part.rows)
      }
    case .sixteenBit:
      output.withUnsafeMutableBufferPointer { output in
        guard let output = output.baseAddress else { return }
        for case .halves(let weights) in projection.parts.map(\.weights) {
          weights.multiply(
            input, count: count, into: output, stride: matrix.rows, instructionSet: instructionSet, pool: pool
          )
        }
      }
    case .quantized, .fourBit:
      output.withUnsafeMutableBufferPointer { output in
        input.withUnsafeBufferPointer { input in
          guard let output = output.baseAddress, let input = input.baseAddress else { return }
          for start in stride(from: 0, to: count, by: Workspace.maximumHeadRows) {
            quantizedProduct(
              projection, input + start * columns, count: min(Workspace.maximumHeadRows, count - start),
              into: output + start * matrix.rows, width: matrix.rows)
          }
        }
      }
    }
  }

  /// Products of at most ``Workspace/maximumHeadRows`` inputs, (count, width).
  private func quantizedProduct(
    _ projection: Projection, _ input: UnsafePointer<Float>, count: Int,
    into output: UnsafeMutablePointer<Float>, width: Int
  ) {
    let columns = projection.columns
    let plan = count == 1 ? projection.plans.one : projection.plans.many
    func run(_ y: Rows) {
      workspace.exclusively {
        workspace.reserve(count)
        let wide =
          columns == configuration.hiddenSize ? nil : QuantizedRows(rows: count, columns: columns)
        let quantized = (wide ?? workspace.hiddenInput).fineView
        let kernels = kernels.pointee
        for row in 0..<count {
          kernels.quantize(input + row * columns, columns: columns, into: quantized, row: row)
        }
        defer { withExtendedLifetime(wide) {} }
        plan.pieces.withUnsafeBufferPointer { pieces in
          pool.run(chunks: pieces.count) { index in
            pieces[index].run(kernels, quantized, count: Int32(count), y, accumulate: false)
          }
        }
      }
    }
    // Row blocks may end past the matrix; only then a wider buffer is needed.
    let padded = roundedUp(width, to: 16)
    guard padded != width else { return run(Rows(start: output, stride: width)) }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count * padded) { wide in
      guard let wide = wide.baseAddress else { return }
      run(Rows(start: wide, stride: padded))
      for row in 0..<count { (output + row * width).update(from: wide + row * padded, count: width) }
    }
  }
}
