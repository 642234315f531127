import Crypto
import Foundation

extension LossTable {
  /// The SHA-256 of what the table says: thresholds, losses and costs as little-endian 64-bit floats.
  ///
  /// It does not depend on the file format, so a table verifies whether it was kept as CSV or as .npy. O(K N).
  public func digest() -> String {
    var hash = SHA256()
    func add(_ text: String) { hash.update(data: Data(text.utf8)) }
    func add(_ values: [Double]) {
      #if _endian(little)
        values.withUnsafeBytes { hash.update(bufferPointer: $0) }
      #else
        for value in values {
          withUnsafeBytes(of: value.bitPattern.littleEndian) { hash.update(bufferPointer: $0) }
        }
      #endif
    }
    func add(_ matrix: ThresholdMatrix) {
      switch matrix.storage {
      case .dense(let values):
        add("dense \(matrix.rowCount) \(matrix.columnCount)\n")
        add(values)
      case .steps(let first, let offsets, let columns, let values):
        add("steps \(matrix.rowCount) \(matrix.columnCount) \(values.count)\n")
        add(first)
        add(offsets.map(Double.init))
        add(columns.map(Double.init))
        add(values)
      }
    }
    add("loss table 1\n")
    add(thresholds)
    add(losses)
    switch costs {
    case nil: add("no costs\n")
    case .means(let means):
      add("mean costs\n")
      add(means)
    case .samples(let matrix): add(matrix)
    }
    return Self.hexadecimal(hash.finalize())
  }

  package static func hexadecimal(_ digest: some Sequence<UInt8>) -> String {
    digest.map { byte in
      let text = String(byte, radix: 16)
      return byte < 16 ? "0" + text : text
    }.joined()
  }
}
