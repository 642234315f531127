import Foundation
import RiskControl
import Testing

@Suite struct TableTests {
  private func message(_ make: () throws -> LossTable) -> String {
    do {
      _ = try make()
      return "no error"
    } catch { return "\(error)" }
  }

  @Test func `losses out of place are named by row, column and value`() {
    func table(_ bad: Double, bound: Double = 1) -> String {
      message { try LossTable(thresholds: [1, 0.5], losses: [0, 0, 0, 0, bad, 0], lossBound: bound) }
    }
    #expect(table(.nan) == "row 2, column 2 (threshold 0.5): loss is NaN, expected a number in [-1, 1]")
    #expect(
      table(.infinity) == "row 2, column 2 (threshold 0.5): loss is +infinity, expected a number in [-1, 1]")
    #expect(
      table(-.infinity) == "row 2, column 2 (threshold 0.5): loss is -infinity, expected a number in [-1, 1]")
    #expect(
      table(1.5) == "row 2, column 2 (threshold 0.5): loss 1.5 is above B = 1; expected a number in [-1, 1]")
    #expect(
      table(-1.5)
        == "row 2, column 2 (threshold 0.5): loss -1.5 is below -B = -1; expected a number in [-1, 1]")
    #expect(table(1.5, bound: 2) == "no error")
    #expect(table(0.5, bound: .nan) == "the loss bound B must be a finite number above 0, found nan")
  }

  @Test func `thresholds must be finite, strictly sorted and each there once`() {
    func table(_ thresholds: [Double]) -> String {
      message { try LossTable(thresholds: thresholds, losses: thresholds.map { _ in 0 }) }
    }
    #expect(
      table([1, 0.5, 0.7])
        == "row 3: threshold 0.7 after 0.5 breaks the descending order; expected thresholds sorted from the safest on"
    )
    #expect(
      table([0, 2, 1])
        == "row 3: threshold 1 after 2 breaks the ascending order; expected thresholds sorted from the safest on"
    )
    #expect(table([1, 0.5, 0.5]) == "row 3: threshold 0.5 is repeated; expected each threshold once")
    #expect(table([1, .nan]) == "row 2: threshold is nan, expected a finite number")
    #expect(table([]) == "the table is empty; expected at least one threshold with its losses")
    #expect(table([0, 1, 2]) == "no error")
  }

  @Test func `shapes must agree`() {
    #expect(
      message { try LossTable(thresholds: [1, 0], losses: [0, 0, 0]) }
        == "3 losses do not divide into 2 rows, one for each threshold")
    #expect(
      message { try LossTable(thresholds: [1, 0], losses: []) }
        == "the table has no samples; expected at least one column of losses")
    #expect(
      message { try LossTable(thresholds: [1, 0], losses: [0, 0], costs: .byThreshold([1])) }
        == "1 costs for 2 thresholds; expected one cost a threshold")
    #expect(
      message { try LossTable(thresholds: [1, 0], losses: [0, 0], costs: .byThreshold([1, .nan])) }
        == "cost 2 is nan, expected a finite number")
    #expect(
      message { try LossTable(thresholds: [1, 0], losses: [0, 0], costs: .bySample([1])) }
        == "1 costs for 2 thresholds and 1 samples; expected 2")
  }

  /// Every row of a sweep against a model that really exits.
  @Test(arguments: ExitComparison.allCases)
  func `a sweep by exit is what exiting at each threshold gives`(comparison: ExitComparison) throws {
    var generator = SeededGenerator(seed: 14)
    for _ in 0..<40 {
      let (n, exits) = (1 + generator.index(below: 12), 1 + generator.index(below: 5))
      // Coarse confidences make ties, zeros and ones.
      let confidences = (0..<n * exits).map { _ in Double(generator.index(below: 7)) / 6 }
      let losses = (0..<n * exits).map { _ in 2 * generator.uniform() - 1 }
      let table = try LossTable(
        confidences: confidences, losses: losses, exitCount: exits,
        exitCosts: (0..<exits).map { Double($0 + 1) },
        comparison: comparison)
      #expect(table.thresholds.first == 1)
      for (row, threshold) in table.thresholds.enumerated() {
        let exit = (0..<n).map { sample in
          (0..<exits - 1).first { exit in
            let confidence = confidences[sample * exits + exit]
            return threshold < 1
              && (comparison == .atLeast ? confidence >= threshold : confidence > threshold)
          } ?? exits - 1
        }
        #expect(table.losses(atRow: row) == (0..<n).map { losses[$0 * exits + exit[$0]] })
        let cost = exit.reduce(0.0) { $0 + Double($1 + 1) } / Double(n)
        #expect(abs((table.meanCosts()?[row] ?? 0) - cost) < 1e-12)
      }
      // The sweep is complete: no threshold in between would give another row.
      let distinct = Set(confidences).filter { $0 < 1 }
      for value in distinct where !table.thresholds.contains(value) {
        #expect(
          comparison == .above
            || (0..<n).allSatisfy { sample in
              let start = sample * exits
              return !(0..<max(exits - 1, 0)).contains {
                confidences[start + $0] == value && confidences[start..<start + $0].allSatisfy { $0 < value }
              }
            })
      }
    }
  }

  @Test func `threshold 1 never exits, even where a confidence is 1`() throws {
    let table = try LossTable(confidences: [1, 0, 0.5, 0], losses: [0.3, 0, 0.2, 0], exitCount: 2)
    #expect(table.thresholds == [1, 1.0.nextDown, 0.5])
    #expect(table.losses(atRow: 0) == [0, 0] && table.startsAtFullModel)
    #expect(table.losses(atRow: 1) == [0.3, 0])
    #expect(table.losses(atRow: 2) == [0.3, 0.2])
    #expect(table.losses(atRow: 3) == nil && table.losses(atRow: -1) == nil)
  }

  @Test func `bad confidences and steps are named`() {
    #expect(
      message { try LossTable(confidences: [0.5, 1.5], losses: [0, 0], exitCount: 2) }
        == "sample 1, exit 2: confidence is 1.5, expected a number in [0, 1]")
    #expect(
      message { try LossTable(confidences: [0.5, 0.5], losses: [0, .nan], exitCount: 2) }
        == "sample 1, exit 2: loss is NaN, expected a number in [-1, 1]")
    #expect(
      message { try LossTable(confidences: [0.5], losses: [0, 0], exitCount: 1) }
        == "2 losses for 1 confidences; expected as many of each")
    #expect(
      message { try LossTable(steps: []) }
        == "the table is empty; expected at least one sample with at least one piece")
    #expect(
      message {
        try LossTable(steps: [
          LossSteps(thresholds: [0, 1], losses: [0, 1]), LossSteps(thresholds: [0, -1], losses: [0, 1]),
        ])
      }
        == "sample 2, piece 2: threshold -1 after 0; expected thresholds strictly sorted from the safest on, in the "
        + "direction of the other samples"
    )
    #expect(
      message {
        try LossTable(steps: [
          LossSteps(thresholds: [0], losses: [0]), LossSteps(thresholds: [1], losses: [0]),
        ])
      }
        == "sample 2: begins at threshold 1, expected the safe end 0 of the first sample")
  }

  @Test func `steps and the dense table of the same losses calibrate alike`() throws {
    // Rollback thresholds: the safe end is 0 and they grow.
    let steps = (0..<200).map { sample -> LossSteps in
      let (second, third) = (0.5 + Double(sample % 7), 9 + Double(sample % 3))
      let late = sample % 3 == 0 ? 1 : -0.1
      return LossSteps(
        thresholds: [0, second, third], losses: [0, sample % 40 == 0 ? 1 : 0, late], costs: [3, 2, 1])
    }
    let table = try LossTable(steps: steps)
    let rows = table.thresholds.indices.map { table.losses(atRow: $0) ?? [] }
    let dense = try LossTable(
      thresholds: table.thresholds, losses: rows.flatMap { $0 },
      costs: .byThreshold(try #require(table.meanCosts())))
    #expect(zip(table.meanLosses(), dense.meanLosses()).allSatisfy { abs($0 - $1) < 1e-12 })
    for rule in ThresholdRule.allCases {
      let calibration = try Calibration(CalibrationSettings(epsilon: 0.1, rule: rule))
      let (a, b) = (try calibration.calibrate(table).outcome, try calibration.calibrate(dense).outcome)
      #expect(a.choice?.index == b.choice?.index && a.choice?.upperBound == b.choice?.upperBound)
      #expect(a.choice?.index ?? 0 > 0)
    }
  }

  @Test func `the digest is of the contents`() throws {
    let table = try LossTable(thresholds: [1, 0], losses: [0, 0.5])
    #expect(table.digest() == (try LossTable(thresholds: [1, 0], losses: [0, 0.5])).digest())
    #expect(table.digest() != (try LossTable(thresholds: [1, 0], losses: [0, 0.5.nextUp])).digest())
    #expect(
      table.digest()
        != (try LossTable(thresholds: [1, 0], losses: [0, 0.5], costs: .byThreshold([1, 2]))).digest())
    #expect(table.digest().count == 64)
  }

  @Test func `compensated sums keep what plain ones lose`() {
    let values = [1, 1e100, 1, -1e100, 1e-3] + [Double](repeating: 0.1, count: 1000)
    #expect(abs(values.withUnsafeBufferPointer { CompensatedSum.of($0) } - 102.001) < 1e-9)
  }
}
