import CTensorKernels
import Foundation
import TensorKernels
import TestSupport
import Testing

@Suite("Attention of one token")
struct AttentionTests {
  /// Runs attention and gives the output, (group, headSize). Keys and values: (positions, headSize). `cut`: the head
  /// is shared out between several callers, who read a cold cache.
  private func attend(
    _ set: InstructionSet, queries: [Float], keys: [Float], values: [Float], group: Int, headSize: Int,
    positions: Int, float: Bool, bytes: Bool = false, cut: Bool = false, skip: Int = 0, bias: [Float] = []
  ) -> [Float] {
    let padded = (positions + 15) / 16 * 16
    // Keys past the end are never used, whatever they are.
    var blocked = [Float](repeating: .nan, count: padded * headSize)
    for p in 0..<positions {
      for d in 0..<headSize { blocked[p / 16 * 16 * headSize + d * 16 + p % 16] = keys[p * headSize + d] }
    }
    var output = [Float](repeating: 7, count: group * headSize + 1)
    var scratch = [Float](repeating: 7, count: group * padded + 1)
    func run(_ keys: UnsafeRawPointer, _ values: UnsafeRawPointer) {
      output.withUnsafeMutableBufferPointer { output in
        scratch.withUnsafeMutableBufferPointer { scratch in
          bias.withUnsafeBufferPointer { bias in
            queries.withUnsafeBufferPointer { queries in
              var task = ek_attention(
                queries: queries.baseAddress, keys: keys, values: values, output: output.baseAddress,
                scores: scratch.baseAddress, group: Int32(group), head_size: Int32(headSize),
                positions: Int32(positions),
                storage: Int32(bytes ? EK_BYTES : float ? EK_FLOAT : EK_HALF), cold: cut, skip: Int32(skip),
                bias: bias.isEmpty ? nil : bias.baseAddress, bias_stride: positions)
              guard cut else {
                set.functions.score(&task, 0, task.positions)
                set.functions.mix(&task, scratch.baseAddress, 0, task.head_size)
                return
              }
              let middle = Int32(positions / 32 * 16)
              set.functions.score(&task, middle, task.positions)
              set.functions.score(&task, 0, middle)
              let half = Int32(headSize / 64 * 32)
              for (begin, end) in [(half, task.head_size), (0, half)] {
                var weights = [Float](repeating: 7, count: group * padded + 1)
                set.functions.mix(&task, &weights, begin, end)
                #expect(weights.last == 7, "a write past the end")
              }
            }
          }
        }
      }
    }
    if bytes {
      run(ByteCache.keys(keys, headSize: headSize), ByteCache.values(values, headSize: headSize))
    } else if float {
      run(blocked, values)
    } else {
      run(blocked.map(ek_float_to_half), values.map(ek_float_to_half))
    }
    #expect(output.last == 7 && scratch.last == 7, "a write past the end")
    return Array(output.dropLast())
  }

  @Test(
    "agrees with double precision", arguments: InstructionSet.available,
    [1, 7, 8, 32, 36, 64, 80, 128, 131])
  func agrees(_ set: InstructionSet, _ headSize: Int) {
    var random = SplitMix64(seed: UInt64(headSize))
    let half = { (x: Float) in Float(halfBits: ek_float_to_half(x)) }
    for group in [1, 2, 3, 4, 5, 8] {
      // All lengths for one group of each kind, some for the others.
      let lengths = group == 4 ? Array(1...70) : [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 70]
      for positions in lengths {
        let queries = randomFloats(group * headSize, in: -0.5...0.5, using: &random)
        // Numbers of half precision, so that both caches hold the same.
        let keys = randomFloats(positions * headSize, in: -2...2, using: &random).map(half)
        let values = randomFloats(positions * headSize, in: -2...2, using: &random).map(half)
        var expected = [Double](repeating: 0, count: group * headSize)
        for g in 0..<group {
          var weights = (0..<positions).map { p in
            (0..<headSize).reduce(0.0) {
              $0 + Double(queries[g * headSize + $1]) * Double(keys[p * headSize + $1])
            }
          }
          let top = weights.max() ?? 0
          weights = weights.map { exp($0 - top) }
          let sum = weights.reduce(0, +)
          for p in 0..<positions {
            for d in 0..<headSize {
              expected[g * headSize + d] += weights[p] / sum * Double(values[p * headSize + d])
            }
          }
        }
        for float in [false, true] {
          let output = attend(
            set, queries: queries, keys: keys, values: values, group: group, headSize: headSize,
            positions: positions, float: float, cut: false)
          let cut = attend(
            set, queries: queries, keys: keys, values: values, group: group, headSize: headSize,
            positions: positions, float: float, cut: true)
          #expect(cut == output, "group \(group), \(positions) positions: cutting changes bits")
          let worst = zip(output, expected).map { abs(Double($0) - $1) }.max() ?? 0
          #expect(worst < 1e-5, "group \(group), \(positions) positions")
        }
        // Of bytes it is what the numbers that they stand for give.
        let read = ByteCache.read
        let (near, cut) = (
          attend(
            set, queries: queries, keys: keys, values: values, group: group, headSize: headSize,
            positions: positions, float: false, bytes: true),
          attend(
            set, queries: queries, keys: keys, values: values, group: group, headSize: headSize,
            positions: positions, float: false, bytes: true, cut: true)
        )
        let plain = attend(
          .portable, queries: queries, keys: read(keys, headSize), values: read(values, headSize),
          group: group,
          headSize: headSize, positions: positions, float: true)
        #expect(cut == near, "group \(group), \(positions) positions: cutting changes bits")
        let worst = zip(near, plain).map { abs($0 - $1) }.max() ?? 0
        #expect(worst < 1e-5, "group \(group), \(positions) positions of bytes")
      }
    }
  }

  @Test("of a query head does not depend on its group, to the bit", arguments: InstructionSet.available)
  func groupsAreInvariant(_ set: InstructionSet) {
    var random = SplitMix64(seed: 3)
    let (headSize, positions) = (68, 37)
    let queries = randomFloats(8 * headSize, in: -1...1, using: &random)
    let keys = randomFloats(positions * headSize, in: -2...2, using: &random)
    let values = randomFloats(positions * headSize, in: -2...2, using: &random)
    for (float, bytes) in [(false, false), (true, false), (false, true)] {
      func output(_ heads: Range<Int>) -> [Float] {
        attend(
          set, queries: Array(queries[heads.lowerBound * headSize..<heads.upperBound * headSize]), keys: keys,
          values: values, group: heads.count, headSize: headSize, positions: positions, float: float,
          bytes: bytes)
      }
      let single = (0..<8).flatMap { output($0..<$0 + 1) }
      for group in 2...8 { #expect(output(0..<group).elementsEqual(single[..<(group * headSize)])) }
    }
  }

  @Test("leaves out what it is told to skip and adds the bias", arguments: InstructionSet.available)
  func skipAndBias(_ set: InstructionSet) {
    var random = SplitMix64(seed: 5)
    let (headSize, positions, group) = (16, 37, 5)
    let queries = randomFloats(group * headSize, in: -1...1, using: &random)
    let keys = randomFloats(positions * headSize, in: -1...1, using: &random)
    let values = randomFloats(positions * headSize, in: -1...1, using: &random)
    let bias = randomFloats(group * positions, in: -2...2, using: &random)
    for skip in [0, 3, 15] {
      let output = attend(
        set, queries: queries, keys: keys, values: values, group: group, headSize: headSize,
        positions: positions, float: true, skip: skip, bias: bias)
      for g in 0..<group {
        let scores = (skip..<positions).map { p in
          (0..<headSize).reduce(Double(bias[g * positions + p])) {
            $0 + Double(queries[g * headSize + $1]) * Double(keys[p * headSize + $1])
          }
        }
        let sum = scores.reduce(0) { $0 + exp($1) }
        for d in 0..<headSize {
          let expected = zip(skip..<positions, scores).reduce(0.0) {
            $0 + exp($1.1) / sum * Double(values[$1.0 * headSize + d])
          }
          #expect(abs(Double(output[g * headSize + d]) - expected) < 1e-5)
        }
      }
    }
  }

  @Test("gives the one value there is, and survives scores far apart", arguments: InstructionSet.available)
  func extremes(_ set: InstructionSet) {
    let one = attend(
      set, queries: [1000, -1000], keys: [500, 1], values: [0.5, -3], group: 1, headSize: 2, positions: 1,
      float: true)
    #expect(one == [0.5, -3])
    // 1e6 against −1e6: all weight is on the second position.
    let two = attend(
      set, queries: [1000], keys: [-1000, 1000, 0], values: [1, 2, 3], group: 1, headSize: 1, positions: 3,
      float: true)
    #expect(two == [2])
    for positions in [3, 8, 20] {
      let lost = attend(
        set, queries: [1], keys: [.nan] + Array(repeating: 1, count: positions - 1),
        values: Array(repeating: 1, count: positions), group: 1, headSize: 1, positions: positions,
        float: true)
      #expect(lost[0].isNaN, "a NaN must not vanish")
    }
  }

  @Test(
    "of rows that share keys and values is what each gets alone, to the bit",
    arguments: InstructionSet.available)
  func sharedRows(_ set: InstructionSet) {
    var random = SplitMix64(seed: 7)
    // Beyond 256 numbers a head nothing is shared.
    for (headSize, group, last, rows, skip) in [
      (64, 3, 9, 8, 0), (64, 3, 64, 3, 0), (64, 4, 131, 8, 5), (80, 2, 70, 5, 0), (131, 1, 129, 2, 0),
      (256, 5, 66, 4, 15), (264, 2, 66, 4, 0), (64, 3, 20, 1, 0),
    ] {
      let padded = (last + 15) / 16 * 16
      let keys = randomFloats(padded * headSize, in: -2...2, using: &random).map(ek_float_to_half)
      let values = randomFloats(last * headSize, in: -2...2, using: &random).map(ek_float_to_half)
      let queries = randomFloats(rows * group * headSize, in: -0.5...0.5, using: &random)
      let bias = randomFloats(group * last, in: -2...2, using: &random)
      for hasBias in [false, true] {
        var outputs = [[Float]](repeating: [], count: 2)
        for shares in [false, true] {
          var output = [Float](repeating: 7, count: rows * group * headSize + 1)
          var scores = [Float](repeating: 7, count: rows * group * padded + 1)
          output.withUnsafeMutableBufferPointer { output in
            scores.withUnsafeMutableBufferPointer { scores in
              guard let target = output.baseAddress, let scratch = scores.baseAddress else { return }
              queries.withUnsafeBufferPointer { queries in
                keys.withUnsafeBufferPointer { keys in
                  values.withUnsafeBufferPointer { values in
                    bias.withUnsafeBufferPointer { bias in
                      let tasks = (0..<rows).map { row in
                        ek_attention(
                          queries: queries.baseAddress.map { $0 + row * group * headSize },
                          keys: keys.baseAddress,
                          values: values.baseAddress, output: target + row * group * headSize,
                          scores: scratch + row * group * padded, group: Int32(group),
                          head_size: Int32(headSize),
                          positions: Int32(last - rows + 1 + row), storage: Int32(EK_HALF), cold: false,
                          skip: Int32(skip), bias: hasBias ? bias.baseAddress : nil, bias_stride: last)
                      }
                      if shares {
                        set.functions.score_rows(tasks, Int32(rows))
                        set.functions.mix_rows(tasks, Int32(rows))
                      } else {
                        for var task in tasks {
                          set.functions.score(&task, 0, task.positions)
                          set.functions.mix(&task, task.scores, 0, task.head_size)
                        }
                      }
                    }
                  }
                }
              }
            }
          }
          #expect(output.last == 7 && scores.last == 7, "a write past the end")
          outputs[shares ? 1 : 0] = output
        }
        #expect(outputs[0] == outputs[1], "heads of \(headSize), \(rows) rows to \(last)")
        #expect(!outputs[0].contains { !$0.isFinite })
      }
    }
  }
}
