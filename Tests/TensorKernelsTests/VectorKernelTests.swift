import CTensorKernels
import Foundation
import TensorKernels
import TestSupport
import Testing

@Suite("Vector kernels")
struct VectorKernelTests {
  // All tails of 8 and 16, and a few long ones.
  static let lengths = Array(1...50) + [576, 1000, 4099]

  private func relativeError(_ value: Float, _ expected: Double) -> Double {
    abs(Double(value) - expected) / max(abs(expected), 1e-300)
  }

  // MARK: Quantising

  @Test("Quantising rounds ties to even", arguments: InstructionSet.available)
  func ties(_ set: InstructionSet) {
    var values = [Float](repeating: 0, count: 32)
    values.replaceSubrange(
      0..<11, with: [127, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 126.5, -126.5, 125.5])
    let x = QuantizedTokens(values, columns: 32, with: set.functions)
    #expect(Array(x.quants[0..<11]) == [127, 0, 2, 2, 4, 0, -2, -2, 126, -126, 126])
    #expect(x.scales[0] == 1)
    #expect(x.sums[0] == 257)
  }

  @Test(
    "Quantising errs by half a step, fills up and writes nothing more", arguments: InstructionSet.available)
  func quantizeRandom(_ set: InstructionSet) {
    for columns in 1...100 {
      for (scale, parts) in [(1e-30, 1), (1e-3, 2), (1, 1), (1, 2), (1e30, 1)] as [(Float, Int)] {
        var random = SplitMix64(seed: UInt64(columns))
        let values = randomFloats(columns, in: -scale...scale, using: &random)
        let x = QuantizedTokens(values, columns: columns, parts: parts, with: set.functions)
        let length = 32 / parts
        for k in 0..<x.kBlocks * parts {
          let quants = x.quants[k * length..<(k + 1) * length]
          let block = min(k * length, columns)..<min((k + 1) * length, columns)
          let peak = block.map { abs(values[$0]) }.max() ?? 0
          #expect(x.scales[k] == peak / 127)
          #expect(x.sums[k] == x.scales[k] * Float(quants.reduce(0) { $0 + Int($1) }))
          for i in block {
            let error = abs(Double(values[i]) - Double(x.scales[k]) * Double(x.quants[i]))
            #expect(error <= Double(x.scales[k]) * 0.50001)
          }
          #expect(quants.dropFirst(block.count).allSatisfy { $0 == 0 })
        }
        for k in 0..<x.kBlocks {
          let sums = [0..<16, 16..<32, 0..<32].map { $0.reduce(0) { $0 + Int32(x.quants[k * 32 + $1]) } }
          #expect(x.offsets[k * 3..<k * 3 + 3].elementsEqual(sums.map { -32 * $0 }))
        }
        #expect(x.quants.last == 77 && x.scales.last == 77 && x.sums.last == 77 && x.offsets.last == 77)
      }
    }
  }

  @Test(
    "Quantising passes over NaNs, and makes zeros of what has no scale", arguments: InstructionSet.available)
  func quantizeOddities(_ set: InstructionSet) {
    // A NaN must hide neither an earlier nor a later peak of its lane.
    for at in 0..<32 {
      for peakAt in 0..<32 where peakAt != at {
        var values = [Float](repeating: 1, count: 32)
        values[at] = .nan
        values[peakAt] = -127
        let x = QuantizedTokens(values, columns: 32, with: set.functions)
        var expected = [Int8](repeating: 1, count: 32)
        expected[at] = 0
        expected[peakAt] = -127
        #expect(Array(x.quants[0..<32]) == expected)
        #expect(x.scales[0] == 1 && x.sums[0] == 30 - 127)
      }
    }
    for odd in [Float.infinity, -.infinity, .nan, 0, -0.0, 0x1p-133, .leastNonzeroMagnitude] {
      for count in [1, 7, 8, 31, 32] {
        let filled = [Float](repeating: odd, count: count)
        let x = QuantizedTokens(filled, columns: count, with: set.functions)
        #expect(x.quants[0..<32].allSatisfy { $0 == 0 } && x.scales[0] == 0 && x.sums[0] == 0)
      }
    }
    let largest = QuantizedTokens([.greatestFiniteMagnitude, 1], columns: 2, with: set.functions)
    #expect(largest.quants[0] == 127 && largest.quants[1] == 0)
  }

  // MARK: Between the products

  @Test("rms_norm agrees with double precision", arguments: InstructionSet.available)
  func rmsNorm(_ set: InstructionSet) {
    var random = SplitMix64(seed: 1)
    for n in Self.lengths {
      let x = randomFloats(n, in: -3...3, using: &random)
      let weight = randomFloats(n, in: 0.5...2, using: &random)
      var y = [Float](repeating: 7, count: n + 1)
      set.functions.rms_norm(x, weight, n, 1e-5, &y)
      let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(n)
      for i in 0..<n {
        let expected = Double(x[i]) / (mean + 1e-5).squareRoot() * Double(weight[i])
        #expect(relativeError(y[i], expected) < 2e-6)
      }
      #expect(y[n] == 7)
    }
  }

  @Test("exp agrees with Foundation's in double precision", arguments: InstructionSet.available)
  func exponential(_ set: InstructionSet) {
    var random = SplitMix64(seed: 2)
    for n in Self.lengths {
      // The whole range in which neither argument nor result leaves the normal numbers.
      let x = randomFloats(n, in: -86...87, using: &random)
      var y = [Float](repeating: 7, count: n + 1)
      set.functions.exp_scaled(x, n, 0.25, 0.5, &y)
      for i in 0..<n {
        #expect(relativeError(y[i], exp(Double(x[i] - 0.25)) * 0.5) < 2.5e-7)
      }
      #expect(y[n] == 7)
      let near = x.map { $0 / 10 }
      let sum = near.reduce(0.0) { $0 + exp(Double($1 - 1)) }
      #expect(relativeError(set.functions.sum_exp(near, n, 1), sum) < 2e-6)
    }
    // Every lane gives zero or nearly so far below, stays finite or overflows far above, and keeps NaN.
    for n in [1, 8, 9, 16] {
      for (argument, holds) in [
        (-200, { $0 >= 0 && $0 < 1.2e-38 }), (-.infinity, { $0 >= 0 && $0 < 1.2e-38 }), (0, { $0 == 1 }),
        (200, { $0 > 2e38 }), (.nan, { $0.isNaN }),
      ] as [(Float, (Float) -> Bool)] {
        var y = [Float](repeating: 7, count: n)
        set.functions.exp_scaled(Array(repeating: argument, count: n), n, 0, 1, &y)
        #expect(y.allSatisfy(holds), "\(argument)")
        var one = [Float](repeating: 0, count: n)
        one[n - 1] = argument
        #expect(set.functions.sum_exp(one, n, 0).isNaN == argument.isNaN)
      }
    }
    #expect(set.functions.sum_exp([], 0, 0) == 0)
  }

  @Test("silu_multiply agrees with double precision", arguments: InstructionSet.available)
  func silu(_ set: InstructionSet) {
    var random = SplitMix64(seed: 3)
    for n in Self.lengths {
      let gate = randomFloats(n, in: -30...30, using: &random)
      let up = randomFloats(n, in: -2...2, using: &random)
      var y = [Float](repeating: 7, count: n + 1)
      set.functions.silu_multiply(gate, up, n, &y)
      for i in 0..<n {
        let expected = Double(gate[i]) / (1 + exp(-Double(gate[i]))) * Double(up[i])
        #expect(relativeError(y[i], expected) < 5e-7)
      }
      #expect(y[n] == 7)
    }
  }

  @Test("gelu_multiply agrees with double precision", arguments: InstructionSet.available)
  func gelu(_ set: InstructionSet) {
    var random = SplitMix64(seed: 8)
    for n in Self.lengths {
      let gate = randomFloats(n, in: -12...12, using: &random)
      let up = randomFloats(n, in: -2...2, using: &random)
      var y = [Float](repeating: 7, count: n + 1)
      set.functions.gelu_multiply(gate, up, n, &y)
      for i in 0..<n {
        let x = Double(gate[i])
        let u = (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)
        let expected = x / (1 + exp(-2 * u)) * Double(up[i])
        // Far below zero the exponential's argument is large, and with it its rounding.
        #expect(abs(Double(y[i]) - expected) < 1e-6 * max(abs(expected), 0.1))
      }
      #expect(y[n] == 7)
    }
  }

  @Test("rotate turns neighbours or halves", arguments: InstructionSet.available, [false, true])
  func rotate(_ set: InstructionSet, _ interleaved: Bool) {
    var random = SplitMix64(seed: 4)
    for (heads, headSize, dimension) in [(1, 2, 2), (3, 64, 64), (2, 80, 20), (5, 7, 6), (2, 128, 128)] {
      let x = randomFloats(heads * headSize + 1, in: -2...2, using: &random)
      let angles = randomFloats(dimension / 2, in: -3...3, using: &random)
      var y = x
      set.functions.rotate(
        &y, Int32(heads), Int32(headSize), Int32(dimension), angles.map { cos($0) }, angles.map { sin($0) },
        interleaved)
      var expected = x.map(Double.init)
      for head in 0..<heads {
        for i in 0..<dimension / 2 {
          let a = head * headSize + (interleaved ? 2 * i : i)
          let b = head * headSize + (interleaved ? 2 * i + 1 : i + dimension / 2)
          let (c, s) = (Double(cos(angles[i])), Double(sin(angles[i])))
          expected[a] = Double(x[a]) * c - Double(x[b]) * s
          expected[b] = Double(x[a]) * s + Double(x[b]) * c
        }
      }
      for i in y.indices { #expect(abs(Double(y[i]) - expected[i]) < 1e-6) }
      #expect(y.last == x.last)
    }
  }

  @Test("scale and dot agree with double precision", arguments: InstructionSet.available)
  func scaleAndDot(_ set: InstructionSet) {
    var random = SplitMix64(seed: 5)
    for n in Self.lengths {
      let a = randomFloats(n, in: -2...2, using: &random)
      let b = randomFloats(n, in: -2...2, using: &random)
      var scaled = a + [7]
      set.functions.scale(&scaled, n, 0.3)
      #expect(scaled == a.map { $0 * 0.3 } + [7])
      let products = zip(a, b).map { Double($0) * Double($1) }
      let error = abs(Double(set.functions.dot(a, b, n)) - products.reduce(0, +))
      #expect(error <= 5e-7 * products.reduce(0) { $0 + abs($1) })
    }
  }

  @Test("maximum gives the first of the largest and passes over NaNs", arguments: InstructionSet.available)
  func maximum(_ set: InstructionSet) {
    func maximum(_ x: [Float]) -> (value: Float, index: Int) {
      var index = -1
      let value = set.functions.maximum(x, x.count, &index)
      return (value, index)
    }
    var random = SplitMix64(seed: 6)
    for n in 0...40 {
      for _ in 0..<20 {
        // Few different values, so there are ties.
        var x = (0..<n).map { _ in Float(Int.random(in: -4...3, using: &random)) - 10 }
        for withNaN in [false, true] {
          if withNaN { for i in 0..<n where Bool.random(using: &random) { x[i] = .nan } }
          let numbers = x.filter { !$0.isNaN }
          let expected = numbers.max() ?? -.infinity
          let (value, index) = maximum(x)
          #expect(value == expected)
          #expect(index == (x.firstIndex(of: expected) ?? 0))
        }
      }
      let (value, index) = maximum(Array(repeating: -.infinity, count: n))
      #expect(value == -.infinity && index == 0)
      let (_, positive) = maximum(Array(repeating: 1, count: n) + [.infinity])
      #expect(positive == n)
    }
  }

  @Test("store_half rounds to nearest, ties to even, everywhere", arguments: InstructionSet.available)
  func storeHalf(_ set: InstructionSet) {
    var values: [Float] = []
    var expected: [UInt16] = []
    for sign in [0, 0x8000] as [UInt16] {
      for bits in 0..<UInt16(0x7C00) {
        let low = Float(halfBits: bits | sign)
        // The step after the largest number would lead to 65536, which is infinity.
        let high = bits == 0x7BFF ? (sign == 0 ? 65536 : -65536) : Float(halfBits: bits + 1 | sign)
        let middle = (low + high) / 2
        let toZero = sign == 0 ? middle.nextDown : middle.nextUp
        let away = sign == 0 ? middle.nextUp : middle.nextDown
        values += [low, toZero, middle, away]
        expected += [bits, bits, bits % 2 == 0 ? bits : bits + 1, bits + 1].map { $0 | sign }
      }
      for huge in [Float.infinity, .greatestFiniteMagnitude, 65536, 1e10] {
        values.append(sign == 0 ? huge : -huge)
        expected.append(0x7C00 | sign)
      }
      for tiny in [Float.leastNonzeroMagnitude, .leastNormalMagnitude, 0x1p-26] {
        values.append(sign == 0 ? tiny : -tiny)
        expected.append(sign)
      }
    }
    for offset in 0..<3 {
      let part = Array(values.dropFirst(offset))
      var halves = [UInt16](repeating: 9, count: part.count + 1)
      set.functions.store_half(part, part.count, &halves)
      #expect(halves.dropLast().elementsEqual(expected.dropFirst(offset)))
      #expect(halves.last == 9)
    }
    for n in [1, 8] {
      var halves = [UInt16](repeating: 9, count: n)
      set.functions.store_half(Array(repeating: .nan, count: n), n, &halves)
      #expect(halves.allSatisfy { $0 & 0x7C00 == 0x7C00 && $0 & 0x3FF != 0 })
    }
    for (value, bits) in zip(values, expected) where ek_float_to_half(value) != bits {
      Issue.record("\(value) packed as \(ek_float_to_half(value))")
    }
  }
}
