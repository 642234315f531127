import Foundation
import RiskControl
import Synchronization
import Testing

@Suite struct StudyTests {
  private func makeTable() throws -> LossTable {
    var generator = SeededGenerator(seed: 17)
    let draws = (0..<600).map { _ in generator.uniform() }
    let shares = [0, 0.02, 0.05, 0.08, 0.12, 0.2, 0.4]
    return try LossTable(
      thresholds: shares.indices.map { 1 - Double($0) / 10 },
      losses: shares.flatMap { s in draws.map { $0 < s ? 1.0 : 0 } },
      costs: .bySample(shares.indices.flatMap { k in draws.map { 30 - 3 * Double(k) + $0 } }))
  }

  @Test func `a study counts what a calibration by hand counts`() throws {
    let table = try makeTable()
    let study = Study(trials: 30, calibrationSizes: [200], epsilons: [0.1], seed: 5)
    let cells = try study.run(on: table)
    #expect(cells.count == 4)
    for cell in cells {
      var risks: [Double] = []
      var costs: [Double] = []
      for trial in 0..<30 {
        var generator = SeededGenerator(seed: 5 &+ UInt64(trial) &* 0xD134_2543_DE82_EF95)
        let order = SampleOrder.shuffled(count: 600, with: &generator).map(Int.init)
        let rows = table.thresholds.indices.map { table.losses(atRow: $0) ?? [] }
        let part = try LossTable(
          thresholds: table.thresholds, losses: rows.flatMap { row in order[..<200].map { row[$0] } })
        let settings = CalibrationSettings(
          epsilon: 0.1, rule: cell.method.rule, bound: cell.method.bound, order: .given)
        let index = try #require(try Calibration(settings).calibrate(part).outcome.choice?.index)
        risks.append(order[200...].reduce(0) { $0 + rows[index][$1] } / 400)
        guard case .samples(let matrix) = table.costs else {
          Issue.record("the table has a cost for every sample")
          return
        }
        let row = matrix.row(index)
        costs.append(order[200...].reduce(0) { $0 + row[$1] } / 400)
      }
      #expect(abs(cell.risk.mean - risks.reduce(0, +) / 30) < 1e-12)
      #expect(abs((cell.cost?.mean ?? 0) - costs.reduce(0, +) / 30) < 1e-10)
      #expect(abs(cell.violationRate - Double(risks.count { $0 > 0.1 }) / 30) < 1e-12)
      #expect(cell.risk.deviation > 0)
    }
    // The order of caution: the empirical rule exits most, the high-probability rules least.
    #expect(cells[0].risk.mean > cells[2].risk.mean && cells[2].violationRate <= cells[0].violationRate)
  }

  @Test func `a study is the same on any number of cores and reports every trial`() throws {
    let table = try makeTable()
    let study = Study(trials: 20, calibrationSizes: [50, 200], epsilons: [0.05, 0.1])
    let calls = Mutex(0)
    let first = try study.run(on: table) { done in calls.withLock { $0 = max($0, done) } }
    #expect(calls.withLock { $0 } == 20)
    #expect(try study.run(on: table) == first)
    var other = study
    other.seed = 1
    #expect(try other.run(on: table) != first)
    #expect(first.count == 2 * 4 * 2)
  }

  @Test func `settings that leave no split are refused`() throws {
    let table = try makeTable()
    for (trials, size, epsilon, delta) in [
      (0, 10, 0.1, 0.1), (1, 0, 0.1, 0.1), (1, 600, 0.1, 0.1), (1, 10, 1.0, 0.1), (1, 10, 0.1, 0.0),
    ] {
      #expect(throws: RiskControlError.self) {
        try Study(trials: trials, calibrationSizes: [size], epsilons: [epsilon], delta: delta).run(on: table)
      }
    }
  }

  @Test func `method names read back`() {
    for method in [
      Study.Method(.empirical), Study.Method(.crc), Study.Method(.ucb, .hoeffding), Study.Method(.ltt, .wsr),
    ] {
      #expect(Study.Method(name: method.name) == method)
    }
    #expect(Study.Method(name: "ltt")?.bound == .hoeffdingBentkus)
    #expect(Study.Method(name: "crc/wsr") == nil && Study.Method(name: "best") == nil)
  }
}
