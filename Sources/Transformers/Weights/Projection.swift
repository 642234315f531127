import CTensorKernels
import Checkpoints
import Synchronization
import TensorKernels

/// A weight matrix, or several that read the same input, one below the other.
///
/// Each part begins at a multiple of 32 rows of the result; the rows between are zero.
struct Projection: Sendable {
  struct Part: Sendable {
    var weights: Weights
    /// Where the part's rows begin in the result.
    var offset: Int
    var rows: Int

    var byteCount: Int {
      switch weights {
      case .packed(let matrix): matrix.byteCount
      case .halves(let matrix): matrix.byteCount
      case .float32(let values): 4 * values.count
      }
    }

    /// Whether a processor does better to read several row blocks at once, far from each other, than one after the
    /// other: on Zen 3 (AVX2, from memory) blocks of 16 rows under 11 KB are read up to 10 % faster so, longer ones up
    /// to 20 % slower.
    var hasShortRowBlocks: Bool {
      guard case .packed(let matrix) = weights else { return false }
      return matrix.matrix.row_block_bytes < 11 << 10
    }
  }

  enum Weights: Sendable {
    case packed(PackedMatrix)
    case halves(HalfMatrix)
    /// (rows, columns), row-major.
    case float32([Float])
  }

  /// How the work is shared out, for one token and for several.
  struct Plans: Sendable {
    var one: WorkPlan
    var many: WorkPlan

    /// Tells each thread what it reads after its share of these.
    mutating func link(to following: Plans) {
      one.link(to: following.one)
      many.link(to: following.many)
    }
  }

  let parts: [Part]
  let columns: Int
  /// Length of a result row.
  let paddedRows: Int
  var plans: Plans

  /// - Parameter paired: whether piece i of the first part and piece i of the second are computed together, in whole
  ///   blocks of 32 rows.
  /// - Parameter instructionSet: tells in which order the weights are read fastest for one token.
  init(
    parts: [Part], columns: Int, paddedRows: Int, threads: Int, instructionSet: InstructionSet, paired: Bool
  ) {
    self.parts = parts
    self.columns = columns
    self.paddedRows = paddedRows
    // Row blocks that lie side by side are read two at a time.
    let many = WorkPlan(parts: parts, threads: threads, unit: 2, paired: paired)
    let readsFarPlaces =
      instructionSet.kernels.pointee.matvec4 != nil && parts.contains(where: \.hasShortRowBlocks)
    plans = Plans(
      one: readsFarPlaces
        ? WorkPlan(farPlacesOf: parts, threads: threads, unit: paired ? 2 : 1, paired: paired) : many,
      many: many)
  }

  /// Bytes that one pass reads.
  var byteCount: Int {
    parts.reduce(0) { $0 + $1.byteCount }
  }
}

func roundedUp(_ count: Int, to multiple: Int) -> Int { (count + multiple - 1) / multiple * multiple }

/// Reads a checkpoint's tensors into the form that a compute path wants.
struct WeightLoader {
  let checkpoint: Checkpoint
  let compute: ComputePath
  let pool: WorkerPool
  let instructionSet: InstructionSet
  let memory = WeightMemory()
  /// Matrices that were packed before.
  var copy: PackedCopy?
  /// Those that are packed now, for a copy of them.
  var packed: PackedMatrices?

  func floats(_ name: String) throws -> [Float] {
    let tensor = try checkpoint.tensor(name)
    try checkFinite(tensor)
    return tensor.makeFloats()
  }

  /// Refuses weights that are infinite or no numbers: what is computed with them is worth nothing.
  func checkFinite(_ tensor: MappedTensor) throws {
    let format = tensor.format
    // A chunk of about a megabyte, in whole blocks.
    let blocks = max(1, (1 << 20) / format.bytesPerBlock)
    let chunk = blocks * format.bytesPerBlock
    let first = Atomic(Int.max)
    tensor.withUnsafeBytes { bytes in
      let address = UInt(bitPattern: bytes.baseAddress)
      pool.run(chunks: (bytes.count + chunk - 1) / chunk) { index in
        let part = UnsafeRawBufferPointer(
          start: UnsafeRawPointer(bitPattern: address + UInt(index * chunk)),
          count: min(chunk, tensor.byteCount - index * chunk))
        if let fault = format.firstNonFinite(in: part) {
          first.min(index * blocks * format.blockLength + fault, ordering: .relaxed)
        }
      }
    }
    let fault = first.load(ordering: .relaxed)
    guard fault == .max else { throw checkpoint.notFinite(tensor.name, at: fault) }
  }

  /// The weights of a norm. Gemma's own files hold what is to be added to 1.
  func norm(_ name: String) throws -> [Float] {
    let values = try floats(name)
    return checkpoint.normsAddOne ? values.map { $0 + 1 } : values
  }

  /// Whether some layer has a matrix in 16 or 32 bits.
  var hasUnquantizedLayers: Bool {
    checkpoint.tensorNames.contains { name in
      guard name.contains("blk."), !name.hasSuffix("_rel_b.weight"), let tensor = try? checkpoint.tensor(name)
      else { return false }
      return tensor.shape.count == 2 && tensor.format.isUnquantized
    }
  }

  /// - Parameters:
  ///   - paired: As in ``Projection``.
  ///   - isLayer: Whether the weights are a layer's, which ``ComputePath/fourBit`` rounds.
  func projection(_ names: [String], paired: Bool = false, isLayer: Bool = true) throws -> Projection {
    var parts: [Projection.Part] = []
    var offset = 0
    var columns = 0
    for name in names {
      let tensor = try checkpoint.tensor(name)
      let rows = tensor.shape[0]
      columns = tensor.shape[1]
      let weights: Projection.Weights
      do {
        weights = try tensor.withUnsafeBytes { bytes in
          switch compute {
          case .float32: .float32(try floats(name))
          case .sixteenBit:
            .halves(
              try HalfMatrix(
                rows: rows, columns: columns, format: tensor.format, source: bytes, memory: memory, pool: pool
              ))
          case .quantized, .fourBit:
            .packed(
              try PackedMatrix(
                rows: rows, columns: columns, format: tensor.format,
                isRoundedTo4Bits: isLayer && compute == .fourBit,
                source: bytes, stored: copy?.matrix(name), memory: memory, pool: pool))
          }
        }
      } catch KernelError.notFinite(let index) {
        throw checkpoint.notFinite(tensor.name, at: index)
      }
      if case .packed(let matrix) = weights { packed?.matrices.append((name, matrix)) }
      tensor.releasePages()
      parts.append(Projection.Part(weights: weights, offset: offset, rows: rows))
      offset += roundedUp(rows, to: 32)
    }
    return Projection(
      parts: parts, columns: columns, paddedRows: offset, threads: pool.threadCount,
      instructionSet: instructionSet, paired: paired)
  }

  func layer(_ index: Int) throws -> Transformer.Layer {
    let prefix = "blk.\(index)."
    let configuration = checkpoint.configuration
    let attention = try projection(["attn_q", "attn_k", "attn_v"].map { "\(prefix)\($0).weight" })
    let gateAndUp = try projection(["\(prefix)ffn_gate.weight", "\(prefix)ffn_up.weight"], paired: true)
    /// The biases of a projection's parts, laid out as its result is.
    func bias(_ projection: Projection, _ names: [String], _ isThere: Bool) throws -> [Float]? {
      guard isThere else { return nil }
      var values = [Float](repeating: 0, count: projection.paddedRows)
      for (part, name) in zip(projection.parts, names) {
        values.replaceSubrange(
          part.offset..<part.offset + part.rows, with: try floats("\(prefix)\(name).bias"))
      }
      return values
    }
    let window = configuration.slidingWindow.flatMap { $0.layers.contains(index) ? $0 : nil }
    let hasQueryKeyNorm = configuration.queryKeyNorm != .none
    func norm(_ name: String, _ isThere: Bool) throws -> [Float]? {
      isThere ? try self.norm("\(prefix)\(name).weight") : nil
    }
    return Transformer.Layer(
      attentionNorm: try norm("attn_norm", configuration.hasInputNorms),
      feedForwardNorm: try norm("ffn_norm", configuration.hasInputNorms),
      attention: attention,
      attentionBias: try bias(attention, ["attn_q", "attn_k", "attn_v"], configuration.hasAttentionBias),
      outputBias: configuration.hasOutputBias ? try floats("\(prefix)attn_output.bias") : nil,
      gateAndUpBias: try bias(gateAndUp, ["ffn_gate", "ffn_up"], configuration.hasFeedForwardBias),
      downBias: configuration.hasFeedForwardBias ? try floats("\(prefix)ffn_down.bias") : nil,
      queryNorm: try norm("attn_q_norm", hasQueryKeyNorm),
      keyNorm: try norm("attn_k_norm", hasQueryKeyNorm),
      postAttentionNorm: try norm("post_attention_norm", configuration.hasPostNorms),
      postFeedForwardNorm: try norm("post_ffw_norm", configuration.hasPostNorms),
      window: window?.size, hasLocalAngles: window?.rotaryBase != nil,
      isRotated: !configuration.layersWithoutPositions.contains(index),
      output: try projection(["\(prefix)attn_output.weight"]),
      gateAndUp: gateAndUp,
      down: try projection(["\(prefix)ffn_down.weight"]))
  }
}
