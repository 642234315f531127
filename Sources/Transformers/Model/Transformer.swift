import CTensorKernels
import Checkpoints
import FileFormats
import Foundation
import Synchronization
import TensorKernels

/// How a model computes.
public enum ComputePath: String, Sendable, CaseIterable {
  /// Weights stay quantised; activations are rounded to 8 bits in blocks of 32 or 16 before each product; keys and
  /// values are kept in half precision. The fast path and the default.
  case quantized
  /// Weights are expanded to single precision and every product is one of single precision. Slow and large: the
  /// reference that the fast path is judged by.
  case float32
  /// ``quantized``, and the layers' weights that the file holds in 16 or 32 bits, which `quantized` rounds to 8 bits,
  /// are rounded to 4, with a scale and a minimum for each 32. The unembedding keeps 8. Half the bytes of the layers,
  /// for some of the quality.
  case fourBit = "4-bit"
  /// Weights that the file holds in half precision or bfloat16 stay as they are, all others are rounded to bfloat16,
  /// and every product is one of single precision. Twice the bytes of ``quantized``, for what its rounding costs.
  case sixteenBit = "16-bit"

  /// Whether products are of floats.
  var multipliesFloats: Bool { self == .float32 || self == .sixteenBit }
}

/// A decoder of the Llama family: RMSNorm, rotary embedding, grouped-query attention, SwiGLU; of those that its
/// configuration sets apart from it by biases, further norms, GeGLU, windows, factors and caps; and of T5, with
/// relative positions and an encoder.
public final class Transformer: DecoderModel, SourceEncoder {
  /// Sizes, family and positions.
  public let configuration: DecoderConfiguration
  /// How products are computed.
  public let computePath: ComputePath
  /// What a reader should know of how the weights were read, a sentence each.
  public let notes: [String]
  /// How its caches hold keys and values.
  let cacheStorage: KeyValueCache.Storage
  /// Bits of a number of its caches: 8, 16 or 32.
  public var cacheBits: Int { cacheStorage.bits }
  /// Whether weights have formats that version 0.2 rounded, or summed in another order, so that its logits were others.
  public let differsFromFirstKernels: Bool
  /// Which kernels run.
  public let instructionSet: InstructionSet
  /// Threads of the worker pool.
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
  /// That of layers with a sliding window.
  let localRotary: RotaryTable?
  let relativeBias: RelativeBias?
  /// The encoder of an encoder–decoder. It shares pool and embedding, and its layers have no cross-attention.
  let encoder: Transformer?
  /// The model itself, where it is an encoder–decoder.
  public var sourceEncoder: (any SourceEncoder)? { encoder == nil ? nil : self }
  // The kernels' table is constant data of the C target.
  nonisolated(unsafe) let kernels: UnsafePointer<ek_kernels>
  let workspace: Workspace

  struct Layer: Sendable {
    /// nil where a block reads the residual stream as it is.
    var attentionNorm: [Float]?
    var feedForwardNorm: [Float]?
    /// Q, K and V, one below the other.
    var attention: Projection
    var attentionBias: [Float]?
    var outputBias: [Float]?
    /// Gate and up, each padded to 32 rows.
    var gateAndUpBias: [Float]?
    var downBias: [Float]?
    /// (headSize) each, norms of the heads of Q and K; or as wide as all heads together.
    var queryNorm: [Float]?
    var keyNorm: [Float]?
    /// Norms of what attention and the feed-forward block add to the residual stream.
    var postAttentionNorm: [Float]?
    var postFeedForwardNorm: [Float]?
    /// Tokens that the layer sees, if not all.
    var window: Int?
    /// Whether its angles are those of layers with a window.
    var hasLocalAngles = false
    var isRotated = true
    var cross: Cross?
    var output: Projection
    /// Gate and up, each padded to 32 rows, one below the other.
    var gateAndUp: Projection
    var down: Projection
  }

  /// Attention to the encoder's output.
  struct Cross: Sendable {
    var norm: [Float]
    var queries: Projection
    /// K and V, one below the other; the input is the encoder's output.
    var keysAndValues: Projection
    var output: Projection
  }

  /// The processors that this process may use, but at most 8.
  public static var defaultThreadCount: Int { min(8, WorkerPool.usableProcessorCount) }

  /// Loads and packs a checkpoint's weights.
  ///
  /// - Parameters:
  ///   - checkpoint: an opened checkpoint; its pages are released once packed.
  ///   - compute: How to hold the weights and multiply them.
  ///   - cacheBits: Bits of keys and values, 16 or 8: with 8 they take about half the memory, for a little of the
  ///     quality. `nil` for 16, and 32 with ``ComputePath/float32``, which has no other, nor have encoder–decoders.
  ///   - threads: 1…256 threads, the caller's included.
  ///   - packedCopy: A file that has the weights as they lie in memory once they are packed: where it is of this
  ///     checkpoint, it is mapped and nothing is packed; else it is written after loading. ``notes`` says what was wrong
  ///     with it. For ``ComputePath/quantized`` and ``ComputePath/fourBit``.
  /// - Throws: ``DecoderError`` when memory, threads or the forced instruction set are not to be had, for
  ///   ``ComputePath/fourBit`` and ``ComputePath/sixteenBit`` where no layer has weights of 16 or 32 bits, and for
  ///   `cacheBits` that there are not.
  public init(
    checkpoint: Checkpoint, compute: ComputePath = .quantized, cacheBits: Int? = nil, threads: Int,
    packedCopy: String? = nil
  ) throws(DecoderError) {
    let configuration = checkpoint.configuration
    var notes: [String] = []
    self.configuration = configuration
    self.computePath = compute
    cacheStorage = try Self.storage(cacheBits, compute: compute, configuration: configuration)
    let changed: Set<BlockFormat> = [.q2_K, .q3_K, .q4_0, .q4_K, .q5_K, .q6_K, .iq4_XS]
    differsFromFirstKernels =
      !compute.multipliesFloats
      && checkpoint.tensorNames.contains { name in
        (try? checkpoint.tensor(name)).map { changed.contains($0.format) } ?? false
      }
    do {
      instructionSet = try InstructionSet.selected()
      let pool = try WorkerPool(threads: threads)
      self.pool = pool
      var loader = WeightLoader(
        checkpoint: checkpoint, compute: compute, pool: pool, instructionSet: instructionSet)
      let facts = try packedCopy.map { _ in try PackedCopy.Contents(of: checkpoint, compute) }
      if let packedCopy, let facts, MappedFile.exists(packedCopy) {
        do throws(FileError) {
          loader.copy = try PackedCopy(path: packedCopy, of: facts)
        } catch {
          notes.append("\(error.description); it is made anew")
        }
      }
      if facts != nil, loader.copy == nil { loader.packed = PackedMatrices() }
      guard ![.fourBit, .sixteenBit].contains(compute) || loader.hasUnquantizedLayers else {
        throw DecoderError.resources(
          "\(checkpoint.path): its layers have no weights of 16 or 32 bits that \(compute.rawValue) could "
            + (compute == .fourBit ? "round" : "keep"))
      }
      // The largest tensor first: while it is packed, file and copy are both in memory.
      let head = configuration.hasTiedEmbedding ? "token_embd.weight" : "output.weight"
      var unembedding = try loader.projection([head], isLayer: false)
      unembeddingRows = try checkpoint.tensor(head)
      embedding = try checkpoint.tensor("token_embd.weight")
      if !configuration.hasTiedEmbedding { try loader.checkFinite(embedding) }
      var layers: [Layer]
      if let stated = configuration.encoder {
        let stack = try loader.t5Stack("dec", layerCount: configuration.layerCount)
        layers = stack.layers
        finalNorm = stack.norm.map { $0 * configuration.outputScale }
        relativeBias = stack.bias
        var facts = configuration
        facts.layerCount = stated.layerCount
        facts.encoder = nil
        encoder = Transformer(
          stack: try loader.t5Stack("enc", layerCount: stated.layerCount), configuration: facts,
          compute: compute, pool: pool, instructionSet: instructionSet, embedding: embedding,
          unembedding: unembedding)
      } else {
        layers = try (0..<configuration.layerCount).map { try loader.layer($0) }
        finalNorm = try loader.norm("output_norm.weight").map { $0 * configuration.outputScale }
        relativeBias = nil
        encoder = nil
      }
      Self.link(&layers, &unembedding)
      self.unembedding = unembedding
      self.layers = layers
      rotary = RotaryTable(configuration)
      localRotary = configuration.slidingWindow?.rotaryBase.map { RotaryTable(configuration, base: $0) }
      if let packedCopy, let facts, let packed = loader.packed {
        do throws(FileError) {
          if try !PackedCopy.write(packed, as: facts, to: packedCopy) {
            notes.append("\(packedCopy): another process is writing it")
          }
        } catch {
          notes.append("the packed weights were not kept: \(error.description)")
        }
      }
    } catch {
      throw DecoderError(error)
    }
    checkpoint.releasePages()
    kernels = instructionSet.kernels
    workspace = Workspace(configuration)
    self.notes = notes
  }

  private static func storage(
    _ bits: Int?, compute: ComputePath, configuration: DecoderConfiguration
  ) throws(DecoderError) -> KeyValueCache.Storage {
    guard let bits else { return compute == .float32 ? .single : .half }
    let isPlain = compute != .float32 && configuration.encoder == nil
    switch bits {
    case 16 where isPlain: return .half
    case 8 where isPlain: return .bytes
    case 8, 16:
      throw .resources(
        "keys and values of \(bits) bits go with quantised weights and decoders that stand alone: leave out cache-bits"
      )
    default: throw .resources("keys and values have 16 or 8 bits, not \(bits)")
    }
  }

  /// Tells each product which weights are read after it.
  private static func link(_ layers: inout [Layer], _ unembedding: inout Projection) {
    for index in layers.indices {
      var layer = layers[index]
      let following = index + 1 < layers.count ? layers[index + 1].attention.plans : unembedding.plans
      layer.attention.plans.link(to: layer.output.plans)
      if var cross = layer.cross {
        layer.output.plans.link(to: cross.queries.plans)
        cross.queries.plans.link(to: cross.output.plans)
        cross.output.plans.link(to: layer.gateAndUp.plans)
        layer.cross = cross
      } else {
        layer.output.plans.link(to: layer.gateAndUp.plans)
      }
      layer.gateAndUp.plans.link(to: layer.down.plans)
      layer.down.plans.link(to: following)
      layers[index] = layer
    }
    if let first = layers.first { unembedding.plans.link(to: first.attention.plans) }
  }

  /// Layers and norm of one of T5's two halves.
  struct Stack {
    var layers: [Layer]
    var norm: [Float]
    var bias: RelativeBias?
  }

  /// Makes a part that shares a model's threads and embedding: its encoder, or a layer beside it.
  private init(
    stack: Stack, configuration: DecoderConfiguration, compute: ComputePath, pool: WorkerPool,
    instructionSet: InstructionSet, embedding: MappedTensor, unembedding: Projection
  ) {
    self.configuration = configuration
    computePath = compute
    cacheStorage = compute == .float32 ? .single : .half
    differsFromFirstKernels = false
    self.pool = pool
    self.instructionSet = instructionSet
    self.embedding = embedding
    unembeddingRows = embedding
    self.unembedding = unembedding
    layers = stack.layers
    finalNorm = stack.norm
    relativeBias = stack.bias
    rotary = RotaryTable(configuration)
    localRotary = nil
    notes = []
    encoder = nil
    kernels = instructionSet.kernels
    workspace = Workspace(configuration)
  }

  /// A layer beside the model, with the model's embedding, norm and unembedding, as draft heads are.
  public func makeSideLayer(path: String, tensors: [String: MappedTensor]) throws(DecoderError)
    -> any DecoderModel
  {
    guard configuration.encoder == nil else {
      throw .resources("a decoder without an encoder, for a layer beside it")
    }
    var facts = configuration
    facts.layerCount = 1
    facts.slidingWindow = nil
    facts.layersWithoutPositions = []
    do {
      let checkpoint = try Checkpoint(layerOf: facts, path: path, tensors: tensors)
      var layers = [
        try WeightLoader(
          checkpoint: checkpoint, compute: computePath, pool: pool, instructionSet: instructionSet
        ).layer(0)
      ]
      var unembedding = unembedding
      Self.link(&layers, &unembedding)
      return Transformer(
        stack: Stack(layers: layers, norm: finalNorm, bias: nil), configuration: facts, compute: computePath,
        pool: pool, instructionSet: instructionSet, embedding: embedding, unembedding: unembedding)
    } catch {
      throw DecoderError(error)
    }
  }

  /// Makes an empty cache. O(capacity) memory, which the system gives when it is written to.
  public func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache {
    guard capacity >= 1, capacity <= configuration.contextLength else {
      throw .contextExceeded(needed: capacity, capacity: configuration.contextLength)
    }
    guard
      let cache = KeyValueCache(
        layerCount: configuration.layerCount, capacity: capacity, headCount: configuration.keyValueHeadCount,
        headSize: configuration.headSize, storage: cacheStorage)
    else { throw .resources("memory for a cache of \(capacity) tokens") }
    return cache
  }

  /// Writes the tokens' embeddings to the first rows.
  ///
  /// - Throws: ``DecoderError`` for a token outside the vocabulary, and for states with too few or other rows.
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
          if configuration.embeddingScale != 1 {
            for i in row * size..<(row + 1) * size { values[i] *= configuration.embeddingScale }
          }
          // The system maps many pages around one that is touched; in time they would be the whole matrix.
          if embeddedTokens.wrappingAdd(1, ordering: .relaxed).newValue % 16 == 0 { embedding.releasePages() }
        }
      }
    }
    states.count = tokens.count
  }

  /// Integer products are exact and float additions have one order, so on the quantised path any batch is invariant;
  /// longer ones are only cut. The reference path's products come from a BLAS, which chooses its order by shape.
  public var invariantBatchLimit: Int { computePath == .float32 ? 1 : Workspace.maximumRows }

  /// Bytes of weights that one token reads in a layer, on average: those of Q4_K_M files have matrices of several
  /// formats.
  ///
  /// - Complexity: O(layers)
  public var bytesPerLayer: Int {
    let bytes = layers.reduce(0) { sum, layer in
      let cross = layer.cross.map { $0.queries.byteCount + $0.output.byteCount } ?? 0
      return sum + layer.attention.byteCount + layer.output.byteCount + layer.gateAndUp.byteCount
        + layer.down.byteCount + cross
    }
    return bytes / max(layers.count, 1)
  }

  /// Bytes of weights that one token reads in the unembedding.
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
      guard encoder == nil || row.cache.source != nil else { throw .noSource }
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
