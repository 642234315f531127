import CTensorKernels
import TensorKernels

extension Transformer {
  /// Reads the weights that a token reads, on all threads, and does nothing with them: what memory allows at most.
  ///
  /// - Complexity: O(bytes of the weights)
  package func readWeights() {
    let projections = layers.flatMap { [$0.attention, $0.output, $0.gateAndUp, $0.down] } + [unembedding]
    let parts = projections.flatMap(\.parts)
    let threads = pool.threadCount
    pool.run(chunks: threads) { thread in
      for part in parts {
        part.withBytes { bytes in
          let (begin, end) = (bytes.count * thread / threads, bytes.count * (thread + 1) / threads)
          if let start = bytes.baseAddress { _ = ek_read_memory(start + begin, end - begin) }
        }
      }
    }
  }
}

extension Projection.Part {
  /// The weights as they lie in memory.
  fileprivate func withBytes(_ body: (UnsafeBufferPointer<UInt8>) -> Void) {
    switch weights {
    case .packed(let matrix): body(UnsafeBufferPointer(start: matrix.matrix.data, count: byteCount))
    case .halves(let matrix):
      UnsafeRawBufferPointer(start: matrix.matrix.data, count: byteCount).withMemoryRebound(
        to: UInt8.self, body)
    case .float32(let values):
      values.withUnsafeBytes { $0.withMemoryRebound(to: UInt8.self, body) }
    }
  }
}
