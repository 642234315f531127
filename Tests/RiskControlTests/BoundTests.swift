import Foundation
import RiskControl
import TestSupport
import Testing

/// Bounds against evaluations with 60 decimal digits (Scripts/make_bound_fixtures.py).
@Suite struct BoundTests {
  struct Fixture: Decodable {
    struct Case: Decodable {
      var name: String
      var delta: Double
      var lossBound: Double
      var losses: [Double]
      var zeros: Int?
      var targets: [Double]
      var wsr: Double
      var wsrP: [Double]
      var hb: Double
      var hbP: [Double]
      var hoeffding: Double
      var hoeffdingP: [Double]
      var bernstein: Double

      var values: [Double] { zeros.map { [Double](repeating: 0, count: $0) } ?? losses }
    }
    struct Tail: Decodable {
      var n: Int
      var k: Int
      var p: Double
      var cumulative: Double
    }
    var bounds: [Case]
    var binomial: [Tail]
  }

  private func close(_ found: Double, _ expected: Double, _ tolerance: Double = 1e-11) -> Bool {
    abs(found - expected) <= tolerance * max(abs(expected), 1e-300) || found == expected
  }

  @Test func `upper bounds and p-values agree with high-precision evaluation`() throws {
    let fixture = try FixtureFile.decode("bounds.json", as: Fixture.self, in: .module)
    #expect(fixture.bounds.count == 30)
    for item in fixture.bounds {
      let (losses, delta, b) = (item.values, item.delta, item.lossBound)
      func upper(_ bound: RiskBound) throws -> Double {
        try bound.upperBound(of: losses, delta: delta, lossBound: b)
      }
      #expect(close(try upper(.wsr), item.wsr), "wsr of \(item.name)")
      #expect(close(try upper(.hoeffdingBentkus), item.hb), "hb of \(item.name)")
      #expect(close(try upper(.hoeffding), item.hoeffding), "hoeffding of \(item.name)")
      #expect(close(try upper(.empiricalBernstein), item.bernstein), "bernstein of \(item.name)")
      for (position, target) in item.targets.enumerated() {
        func p(_ bound: RiskBound) throws -> Double {
          try bound.pValue(of: losses, epsilon: target, delta: delta, lossBound: b)
        }
        #expect(close(try p(.wsr), item.wsrP[position], 1e-10), "wsr p of \(item.name) at \(target)")
        #expect(
          close(try p(.hoeffdingBentkus), item.hbP[position], 1e-10), "hb p of \(item.name) at \(target)")
        #expect(close(try p(.hoeffding), item.hoeffdingP[position], 1e-10), "hoeffding p of \(item.name)")
      }
    }
  }

  @Test func `binomial tails agree with high-precision evaluation`() throws {
    for tail in try FixtureFile.decode("bounds.json", as: Fixture.self, in: .module).binomial {
      let found = Binomial.cumulative(tail.k, n: tail.n, p: tail.p)
      #expect(
        close(found, tail.cumulative, 1e-12),
        "n \(tail.n), k \(tail.k): \(found), expected \(tail.cumulative)")
    }
    #expect(Binomial.cumulative(-1, n: 5, p: 0.5) == 0)
    #expect(Binomial.cumulative(5, n: 5, p: 0.5) == 1)
  }

  @Test func `p-value and upper bound are two faces of one test`() throws {
    var generator = SeededGenerator(seed: 4)
    let losses = (0..<150).map { _ in generator.uniform() < 0.1 ? 1.0 : 0.0 }
    for bound in RiskBound.allCases {
      let upper = try bound.upperBound(of: losses, delta: 0.1)
      #expect(try bound.pValue(of: losses, epsilon: upper, delta: 0.1) <= 0.1 * (1 + 1e-9))
      #expect(try bound.pValue(of: losses, epsilon: upper * (1 - 1e-6), delta: 0.1) > 0.1 * (1 - 1e-9))
    }
  }

  @Test func `zero empirical risk is a number and not NaN`() throws {
    let zeros = [Double](repeating: 0, count: 50)
    #expect(HoeffdingBentkus.relativeEntropy(0, 0.1) == -log1p(-0.1))
    for bound in RiskBound.allCases {
      let p = try bound.pValue(of: zeros, epsilon: 0.1, delta: 0.1)
      #expect(p >= 0 && p <= 1)
      #expect(try bound.upperBound(of: zeros, delta: 0.1).isFinite)
    }
    let ones = [Double](repeating: 1, count: 50)
    #expect(try RiskBound.hoeffdingBentkus.pValue(of: ones, epsilon: 0.5, delta: 0.1) == 1)
  }

  @Test func `even losses that are all zero leave a bound above zero`() throws {
    func bound(_ n: Int) throws -> Double {
      try RiskBound.wsr.upperBound(of: [Double](repeating: 0, count: n), delta: 0.1)
    }
    #expect(abs(try bound(100) - 0.024) < 0.001)
    #expect(abs(try bound(1000) - 0.0024) < 0.0001)
  }

  /// Bounds of losses that may lie anywhere in [-B, B].
  static let general = RiskBound.allCases.filter { $0 != .binomial }

  @Test(arguments: general) func `scaling losses and B scales the bound`(bound: RiskBound) throws {
    var generator = SeededGenerator(seed: 9)
    let losses = (0..<200).map { _ in generator.uniform() < 0.3 ? generator.uniform() : 0 }
    let one = try bound.upperBound(of: losses, delta: 0.05)
    let two = try bound.upperBound(of: losses.map { 2 * $0 }, delta: 0.05, lossBound: 2)
    #expect(abs(two - 2 * one) < 1e-12)
  }

  @Test func `a bracket for B = 2 reaches past 1`() throws {
    let losses = [Double](repeating: 1.8, count: 100)
    for bound in Self.general {
      let upper = try bound.upperBound(of: losses, delta: 0.1, lossBound: 2)
      #expect(upper > 1.8 && upper <= 2)
    }
  }

  @Test func `the betting bound takes negative losses and never says less than 0`() throws {
    let negative = [Double](repeating: -0.5, count: 300)
    #expect(try RiskBound.wsr.upperBound(of: negative, delta: 0.1) == 0)
    let mixed = (0..<300).map { $0 % 3 == 0 ? -1.0 : 0.2 }
    let signed = try RiskBound.wsr.upperBound(of: mixed, delta: 0.1)
    let clipped = try RiskBound.wsr.upperBound(of: mixed.map { max($0, 0) }, delta: 0.1)
    #expect(signed < clipped)
  }

  @Test func `the betting bound depends on the order of the samples`() throws {
    var generator = SeededGenerator(seed: 2)
    let losses = (0..<300).map { _ in generator.uniform() < 0.1 ? 1.0 : 0.0 }
    let sorted = try RiskBound.wsr.upperBound(of: losses.sorted(), delta: 0.1)
    #expect(sorted != (try RiskBound.wsr.upperBound(of: losses, delta: 0.1)))
    #expect(
      try RiskBound.hoeffdingBentkus.upperBound(of: losses.sorted(), delta: 0.1)
        == RiskBound.hoeffdingBentkus.upperBound(of: losses, delta: 0.1))
  }

  @Test func `a capital too small for a float comes back`() {
    // 3,000 losses at the bound halve the capital against m = 1/2 nearly every time, far below the smallest float; the
    // gains afterwards count in full. The stakes are high because δ is tiny.
    let losses = [Double](repeating: 1, count: 3000) + [Double](repeating: -1, count: 30_000)
    let capital = BettingCapital(sampleCount: losses.count, delta: 1e-200, lossBound: 1)
    losses.withUnsafeBufferPointer { capital.load($0) }
    #expect(capital.reaches(0.5, strictly: true))
    #expect(capital.maximumLogCapital(0.5) > 461)
    losses.reversed().withUnsafeBufferPointer { capital.load($0) }
    #expect(capital.reaches(0.5, strictly: true))
    [Double](repeating: 1, count: 33_000).withUnsafeBufferPointer { capital.load($0) }
    #expect(!capital.reaches(0.5, strictly: false))
    #expect(capital.maximumLogCapital(0.5) == 0)
  }

  @Test func `bad losses and settings are refused by name`() {
    #expect(throws: RiskControlError.self) { try RiskBound.wsr.upperBound(of: [], delta: 0.1) }
    #expect(throws: RiskControlError.self) { try RiskBound.wsr.upperBound(of: [0.1, .nan], delta: 0.1) }
    #expect(throws: RiskControlError.self) { try RiskBound.wsr.upperBound(of: [1.1], delta: 0.1) }
    #expect(throws: RiskControlError.self) { try RiskBound.wsr.upperBound(of: [0.1], delta: 0) }
    #expect(throws: RiskControlError.self) {
      try RiskBound.wsr.upperBound(of: [0.1], delta: 0.1, lossBound: .infinity)
    }
  }
}
