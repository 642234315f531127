import CTensorKernels
import Checkpoints
import Synchronization

/// Buffers of one forward pass, kept between calls.
///
/// `@unchecked Sendable`: everything mutable is used inside ``exclusively(_:)`` only.
final class Workspace: @unchecked Sendable {
  private let lock = Mutex(())

  /// Runs `body` while no other thread uses these buffers.
  func exclusively(_ body: () -> Void) {
    lock.withLock { _ in body() }
  }

  /// Rows that are advanced together; longer batches are cut, so that activations stay in the caches.
  static let maximumRows = 256
  /// Rows whose logits are computed together: (rows, vocabularySize) floats are written.
  static let maximumHeadRows = 64

  let configuration: DecoderConfiguration
  /// Where the time goes, while somebody measures.
  var timeline: PassTimeline?
  private(set) var rows = 0

  /// (rows, hiddenSize rounded up to 32): the residual stream.
  private(set) var residual: Rows
  /// (rows, Q K V rounded up to 32 each)
  private(set) var attention: Rows
  /// (rows, headCount · headSize)
  private(set) var mixed: Rows
  /// (rows, 2 · feedForwardSize rounded up to 32)
  private(set) var gateAndUp: Rows
  /// Where a row's second half begins, that of up.
  let feedForwardStride: Int
  /// (rows, hiddenSize rounded up to 32): what a block adds, where something comes first; else without memory.
  private(set) var branch: Rows
  /// (rows, rotaryDimension / 2) each; twice that where layers with a sliding window have angles of their own.
  private(set) var cosines: Rows
  private(set) var sines: Rows
  /// What the rows lie in.
  private var memory: [Buffer<Float>] = []

  private var scoreBuffer = Buffer<Float>(0)
  private var scoreCount = 0

  private(set) var hiddenInput = QuantizedRows(rows: 0, columns: 0)
  private(set) var mixedInput = QuantizedRows(rows: 0, columns: 0)
  private(set) var feedForwardInput = QuantizedRows(rows: 0, columns: 0)

  init(_ configuration: DecoderConfiguration) {
    self.configuration = configuration
    let mixedStride = configuration.headCount * configuration.headSize
    feedForwardStride = roundedUp(configuration.feedForwardSize, to: 32)
    let keysAndValues = 2 * roundedUp(configuration.keyValueHeadCount * configuration.headSize, to: 32)
    let rotaryStride =
      configuration.rotaryDimension / 2 * (configuration.slidingWindow?.rotaryBase == nil ? 1 : 2)
    // No rows yet, but a place that a pointer may have.
    let nowhere = Buffer<Float>(0)
    func none(_ stride: Int) -> Rows { Rows(start: nowhere.start, stride: stride) }
    residual = none(roundedUp(configuration.hiddenSize, to: 32))
    branch = residual
    attention = none(roundedUp(mixedStride, to: 32) + keysAndValues)
    mixed = none(mixedStride)
    gateAndUp = none(2 * feedForwardStride)
    cosines = none(rotaryStride)
    sines = cosines
    memory = [nowhere]
  }

  /// Room for a single token's attention scores and weights.
  func scores(_ count: Int) -> UnsafeMutablePointer<Float> {
    if count > scoreCount {
      // Positions grow one by one.
      scoreCount = 2 * count
      scoreBuffer = Buffer(scoreCount)
    }
    return scoreBuffer.start
  }

  /// Makes room for `count` rows.
  func reserve(_ count: Int) {
    guard count > rows else { return }
    rows = count
    memory = []
    func make(_ rows: inout Rows) {
      let buffer = Buffer<Float>(count * rows.stride)
      memory.append(buffer)
      rows.start = buffer.start
    }
    make(&residual)
    make(&attention)
    make(&mixed)
    make(&gateAndUp)
    if configuration.changesBranches { make(&branch) }
    make(&cosines)
    make(&sines)
    hiddenInput = QuantizedRows(rows: count, columns: configuration.hiddenSize)
    mixedInput = QuantizedRows(rows: count, columns: mixed.stride)
    feedForwardInput = QuantizedRows(rows: count, columns: configuration.feedForwardSize)
  }
}

/// A matrix in memory that somebody else owns: row-major, with `stride` numbers from one row to the next.
struct Rows {
  var start: UnsafeMutablePointer<Float>
  let stride: Int

  subscript(row: Int) -> UnsafeMutablePointer<Float> { start + row * stride }
}

/// Zeroed memory with a stable address.
final class Buffer<Element: BitwiseCopyable> {
  let start: UnsafeMutablePointer<Element>

  init(_ count: Int) where Element: ExpressibleByIntegerLiteral {
    start = .allocate(capacity: max(count, 1))
    start.initialize(repeating: 0, count: max(count, 1))
  }

  deinit { start.deallocate() }
}

/// Activations rounded to 8 bits with a scale for each 32, or for each 16.
final class QuantizedRows {
  private let quants: Buffer<Int8>
  private let scales: Buffer<Float>
  private let sums: Buffer<Float>
  private let offsets: Buffer<Int32>
  let blocks: Int

  init(rows: Int, columns: Int) {
    blocks = (columns + 31) / 32
    quants = Buffer(rows * blocks * 32)
    scales = Buffer(rows * blocks * 2)
    sums = Buffer(rows * blocks * 2)
    offsets = Buffer(rows * blocks * 3)
  }

  var view: ek_activations { view(parts: 1) }
  /// With a scale for each 16: half the error, for a sixth more time where a product is not bound by memory. Of the
  /// error of a model's distributions, half comes from the inputs of queries, keys and values and of the unembedding.
  var fineView: ek_activations { view(parts: 2) }

  private func view(parts: Int32) -> ek_activations {
    ek_activations(
      quants: quants.start, scales: scales.start, sums: sums.start, offsets: offsets.start,
      k_blocks: Int32(blocks), parts: parts)
  }
}

extension ek_kernels {
  /// Quantises `columns` numbers into row `row` of `target`, from block `block` on.
  func quantize(
    _ x: UnsafePointer<Float>, columns: Int, into target: ek_activations, row: Int, block: Int = 0
  ) {
    let at = row * Int(target.k_blocks) + block
    let part = at * Int(target.parts)
    quantize(
      x, columns, target.parts, target.quants + at * 32, target.scales + part, target.sums + part,
      target.offsets + at * 3)
  }
}
