import CTensorKernels
import TensorKernels
import TestSupport
import Testing

/// A cache of 8-bit numbers, made by plain code.
enum ByteCache {
  /// Quants and scale of one row: the largest number is 127.
  static func quantized(_ row: ArraySlice<Float>) -> (quants: [Int8], scale: Float) {
    let peak = row.map(abs).max() ?? 0
    guard peak > 0, 127 / peak < .infinity else { return (row.map { _ in 0 }, 0) }
    return (row.map { Int8(($0 * (127 / peak)).rounded(.toNearestOrEven)) }, peak / 127)
  }

  static func rows(_ numbers: [Float], _ headSize: Int) -> [(quants: [Int8], scale: Float)] {
    stride(from: 0, to: numbers.count, by: headSize).map { quantized(numbers[$0..<$0 + headSize]) }
  }

  /// (positions / 16, headSize, 16), each block followed by its 16 scales. Places past the end hold what is no number.
  static func keys(_ keys: [Float], headSize: Int) -> [UInt8] {
    let rows = rows(keys, headSize)
    return stride(from: 0, to: rows.count, by: 16).flatMap { start -> [UInt8] in
      let block = (start..<start + 16).map {
        $0 < rows.count ? rows[$0] : (Array(repeating: 99, count: headSize), .nan)
      }
      return (0..<headSize).flatMap { d in block.map { UInt8(bitPattern: $0.quants[d]) } }
        + block.flatMap { bytes($0.scale) }
    }
  }

  /// (positions, headSize), each row followed by its scale.
  static func values(_ values: [Float], headSize: Int) -> [UInt8] {
    rows(values, headSize).flatMap { $0.quants.map(UInt8.init(bitPattern:)) + bytes($0.scale) }
  }

  /// The numbers that a cache stands for.
  static func read(_ numbers: [Float], _ headSize: Int) -> [Float] {
    rows(numbers, headSize).flatMap { row in row.quants.map { Float($0) * row.scale } }
  }

  private static func bytes(_ scale: Float) -> [UInt8] { withUnsafeBytes(of: scale) { Array($0) } }
}

@Suite("Rows of 8-bit numbers")
struct ByteCacheTests {
  private func store(_ set: InstructionSet, _ row: [Float]) -> (quants: [Int8], scale: Float) {
    var quants = [Int8](repeating: 55, count: row.count + 1)
    var scale: Float = -1
    set.functions.store_bytes(row, row.count, &quants, &scale)
    #expect(quants.last == 55, "a write past the end")
    return (Array(quants.dropLast()), scale)
  }

  @Test("are those of the definition", arguments: InstructionSet.available, [1, 7, 8, 31, 64, 80, 131])
  func agree(_ set: InstructionSet, _ count: Int) {
    var random = SplitMix64(seed: UInt64(count))
    for size: Float in [1e-30, 1e-3, 1, 4e4] {
      let row = randomFloats(count, in: -size...size, using: &random)
      let (found, expected) = (store(set, row), ByteCache.quantized(row[...]))
      #expect(found.scale == expected.scale)
      // A number half way between two may go either way, for products and sums are fused here and there.
      for index in row.indices {
        #expect(abs(Float(found.quants[index]) * found.scale - row[index]) <= 0.5001 * found.scale)
        #expect(abs(Int(found.quants[index]) - Int(expected.quants[index])) <= 1)
      }
      #expect(found.quants.map { abs(Int($0)) }.max() == 127)
    }
  }

  @Test("are zero where nothing is, and no number where one is none", arguments: InstructionSet.available)
  func extremes(_ set: InstructionSet) {
    for count in [1, 8, 13] {
      let none = store(set, Array(repeating: 0, count: count))
      #expect(none.scale == 0 && none.quants.allSatisfy { $0 == 0 })
      let tiny = store(set, Array(repeating: .leastNonzeroMagnitude, count: count))
      #expect(tiny.scale == 0 && tiny.quants.allSatisfy { $0 == 0 })
      for bad in [Float.nan, .infinity, -.infinity] {
        for place in [0, count - 1] {
          var row = [Float](repeating: 1, count: count)
          row[place] = bad
          #expect(store(set, row).scale.isNaN, "\(bad) must not vanish")
        }
      }
    }
  }
}
