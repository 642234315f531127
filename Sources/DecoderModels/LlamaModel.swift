import CTensorKernels
import Checkpoints
import Foundation
import Synchronization
import TensorKernels

/// How a model computes.
public enum ComputePath: String, Sendable, CaseIterable {
  /// Weights stay quantised; activations are rounded to 8 bits in blocks of 32 or 16 before each product; keys and values
  /// are kept in half precision. The fast path and the default.
  case quantized
  /// Weights are expanded to single precision and every product is one of single precision. Slow and large: the
  /// reference that the fast path is judged by.
  case float32
}

/// A decoder of the Llama family: RMSNorm, rotary embedding, grouped-query attention, SwiGLU; Qwen 2 with its biases.
public final class LlamaModel: DecoderModel {
  public let configuration: DecoderConfiguration
  public let computePath: ComputePath
  public let instructionSet: InstructionSet
  public var threadCount: Int { pool.threadCount }

  let pool: WorkerPool
  let layers: [Layer]
  let unembedding: Projection
  let finalNorm: [Float]
  let embedding: MappedTensor
  private let embeddedTokens = Atomic(0)
  /// The unembedding as stored, for ``makeUnembedding(of:)``.
  let unembeddingRows: MappedTensor
  let rotary: RotaryTable
  // The kernels' table is constant data of the C target.
  nonisolated(unsafe) let kernels: UnsafePointer<ek_kernels>
  let workspace: Workspace

  struct Layer: Sendable {
    var attentionNorm: [Float]
    var feedForwardNorm: [Float]
    /// Q, K and V, one below the other.
    var attention: Projection
    var attentionBias: [Float]?
    var output: Projection
    /// Gate and up, each padded to 32 rows, one below the other.
    var gateAndUp: Projection
    var down: Projection
  }

  /// Loads and packs a checkpoint's weights.
  ///
  /// - Parameters:
  ///   - checkpoint: an opened checkpoint; its pages are released once packed.
  ///   - compute: ``ComputePath/quantized`` or the single-precision reference.
  ///   - threads: 1…256 threads, the caller's included.
  /// - Throws: ``DecoderError`` when memory, threads or the forced instruction set are not to be had.
  public init(checkpoint: Checkpoint, compute: ComputePath = .quantized, threads: Int) throws(DecoderError) {
    let configuration = checkpoint.configuration
    self.configuration = configuration
    self.computePath = compute
    do {
      instructionSet = try InstructionSet.selected()
      let pool = try WorkerPool(threads: threads)
      self.pool = pool
      let loader = WeightLoader(checkpoint: checkpoint, compute: compute, pool: pool)
      // The largest tensor first: while it is packed, file and copy are both in memory.
      let head = configuration.hasTiedEmbedding ? "token_embd.weight" : "output.weight"
      var unembedding = try loader.projection([head])
      unembeddingRows = try checkpoint.tensor(head)
      embedding = try checkpoint.tensor("token_embd.weight")
      var layers = try (0..<configuration.layerCount).map { try loader.layer($0) }
      for index in layers.indices {
        layers[index].attention.plans.one.link(to: layers[index].output.plans.one)
        layers[index].output.plans.one.link(to: layers[index].gateAndUp.plans.one)
        layers[index].gateAndUp.plans.one.link(to: layers[index].down.plans.one)
        layers[index].down.plans.one.link(
          to: index + 1 < layers.count ? layers[index + 1].attention.plans.one : unembedding.plans.one)
      }
      if let first = layers.first { unembedding.plans.one.link(to: first.attention.plans.one) }
      self.unembedding = unembedding
      self.layers = layers
      finalNorm = try loader.floats("output_norm.weight")
      rotary = RotaryTable(configuration)
    } catch {
      throw DecoderError(error)
    }
    checkpoint.releasePages()
    kernels = instructionSet.kernels
    workspace = Workspace(configuration)
  }

  public func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache {
    guard capacity >= 1, capacity <= configuration.contextLength else {
      throw .contextExceeded(needed: capacity, capacity: configuration.contextLength)
    }
    guard
      let cache = KeyValueCache(
        layerCount: configuration.layerCount, capacity: capacity, headCount: configuration.keyValueHeadCount,
        headSize: configuration.headSize, bytesPerNumber: computePath == .float32 ? 4 : 2)
    else { throw .resources("memory for a cache of \(capacity) tokens") }
    return cache
  }

  public func embed(_ tokens: [TokenID], into states: HiddenStates) throws(DecoderError) {
    guard tokens.count <= states.capacity, states.hiddenSize == configuration.hiddenSize else {
      throw .rowCount(expected: tokens.count, found: states.capacity)
    }
    let size = configuration.hiddenSize
    for token in tokens where token < 0 || token >= configuration.vocabularySize {
      throw .tokenOutOfRange(token: token, vocabularySize: configuration.vocabularySize)
    }
    let format = embedding.format
    let rowBytes = size / format.blockLength * format.bytesPerBlock
    states.values.withUnsafeMutableBufferPointer { values in
      embedding.withUnsafeBytes { stored in
        for (row, token) in tokens.enumerated() {
          _ = format.dequantize(
            UnsafeRawBufferPointer(rebasing: stored[token * rowBytes..<(token + 1) * rowBytes]),
            into: UnsafeMutableBufferPointer(rebasing: values[row * size..<(row + 1) * size]))
          // The system maps many pages around one that is touched; in time they would be the whole matrix.
          if embeddedTokens.wrappingAdd(1, ordering: .relaxed).newValue % 16 == 0 { embedding.releasePages() }
        }
      }
    }
    states.count = tokens.count
  }

  /// Integer products are exact and float additions have one order, so on the quantised path any batch is invariant;
  /// longer ones are only cut. The reference path's products come from a BLAS, which chooses its order by shape.
  public var invariantBatchLimit: Int { computePath == .quantized ? Workspace.maximumRows : 1 }

  public var bytesPerLayer: Int {
    guard let layer = layers.first else { return 0 }
    return layer.attention.byteCount + layer.output.byteCount + layer.gateAndUp.byteCount
      + layer.down.byteCount
  }

  public var bytesOfUnembedding: Int { unembedding.byteCount }

  /// Checks what every range of layers is asked with.
  func check(_ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>) throws(DecoderError) {
    guard range.lowerBound >= 0, range.upperBound <= configuration.layerCount else {
      throw .layersOutOfRange(range, layerCount: configuration.layerCount)
    }
    guard rows.count <= states.count, states.hiddenSize == configuration.hiddenSize else {
      throw .rowCount(expected: rows.count, found: states.count)
    }
    var ends: [ObjectIdentifier: Int] = [:]
    for row in rows {
      guard row.position >= 0, row.position < row.cache.capacity else {
        throw .contextExceeded(needed: row.position + 1, capacity: row.cache.capacity)
      }
      guard row.cache.filled.count == configuration.layerCount, row.cache.memory != nil else {
        throw .rowCount(expected: configuration.layerCount, found: row.cache.filled.count)
      }
      let id = ObjectIdentifier(row.cache)
      for layer in range {
        let end = ends[id] ?? row.cache.filled[layer]
        guard row.position <= end else {
          throw .gapInCache(layer: layer, position: row.position, filled: end)
        }
        if ends[id] != nil { break }
      }
      ends[id] = row.position + 1
    }
  }
}

extension DecoderError {
  init(_ error: any Error) {
    switch error {
    case let error as DecoderError: self = error
    case let error as CheckpointError: self = .checkpoint(error)
    default: self = .resources(String(describing: error))
    }
  }
}
