import Foundation
import RiskControl

extension ByteSource {
  /// Reads `count` elements. The caller has checked that the file can hold them, where its size is known.
  package func readElements(_ type: ElementType, count: Int, what: String) throws(RiskControlError)
    -> [Double]
  {
    var values: [Double] = []
    // A file of unknown length may promise more than it holds: reserve only what was seen to be there.
    values.reserveCapacity(size == nil ? min(count, 1 << 20) : count)
    let piece = (8 << 20) / type.size
    while values.count < count {
      let wanted = min(piece, count - values.count)
      let bytes = try read(wanted * type.size)
      guard bytes.count == wanted * type.size else {
        throw .file("the data of \(what) end early: expected \(count) elements", in: name)
      }
      bytes.withUnsafeBytes { type.append($0, to: &values) }
    }
    return values
  }
}
