import Foundation
import RiskControl
import TestSupport
import Testing

@Suite struct MonitorTests {
  private static let (epsilon, delta) = (0.05, 0.1)

  /// Losses like those of ROUGE-L against the full model's output: most are 0.
  private func loss(_ risk: Double, _ generator: inout SeededGenerator) -> Double {
    generator.uniform() < 0.3 ? min(1, 2 * generator.uniform() * risk / 0.3) : 0
  }

  /// The audit of each run's alarm, `Int.max` where there was none.
  private func alarms(risk: Double, runs: Int, audits: Int, seed: UInt64) throws -> [Int] {
    var generator = SeededGenerator(seed: seed)
    return try (0..<runs).map { _ in
      var monitor = try RiskMonitor(epsilon: Self.epsilon, delta: Self.delta)
      for _ in 0..<audits where !monitor.isAlarmed { try monitor.add(loss(risk, &generator)) }
      return monitor.alarmAt ?? .max
    }.sorted()
  }

  @Test func `at a risk of exactly epsilon the alarm is ever raised in at most a share delta of runs`() throws
  {
    let runs = 600
    let wrong = try alarms(risk: Self.epsilon, runs: runs, audits: 4000, seed: 201).count { $0 < .max }
    #expect(Double(wrong) / Double(runs) <= GrowingSampleTests.limit(runs))
    #expect(wrong > 0)
  }

  @Test(arguments: [(0.071, 450), (0.108, 120), (0.2, 40)])
  func `a shift is found soon`(risk: Double, audits: Int) throws {
    let found = try alarms(risk: risk, runs: 200, audits: 4000, seed: 202)
    #expect(found[100] <= audits, "median \(found[100])")
    #expect(found[190] < .max)
  }

  @Test func `testing again and again as if each time were the only one is convicted`() {
    var generator = SeededGenerator(seed: 203)
    var wrong = 0
    for _ in 0..<200 {
      var (sum, squares, count) = (0.0, 0.0, 0.0)
      var alarm = false
      for _ in 0..<4000 {
        let loss = loss(Self.epsilon, &generator)
        (sum, squares, count) = (sum + loss, squares + loss * loss, count + 1)
        let mean = sum / count
        let error = ((squares / count - mean * mean) / count).squareRoot()
        // One-sided, 10 %.
        if count >= 30, mean - 1.2816 * error > Self.epsilon { alarm = true }
      }
      if alarm { wrong += 1 }
    }
    #expect(Double(wrong) / 200 > 0.4)
  }

  @Test func `losses that can gain are watched too`() throws {
    var generator = SeededGenerator(seed: 204)
    var wrong = 0
    for _ in 0..<300 {
      var monitor = try RiskMonitor(epsilon: Self.epsilon, delta: Self.delta, leastLoss: -1)
      for _ in 0..<1500 {
        let u = generator.uniform()
        try monitor.add(u < 0.2 ? -1 : u < 0.45 ? 1 : 0)
      }
      if monitor.isAlarmed { wrong += 1 }
    }
    #expect(Double(wrong) / 300 <= GrowingSampleTests.limit(300))
    var monitor = try RiskMonitor(epsilon: Self.epsilon)
    #expect(throws: RiskControlError.self) { try monitor.add(-0.1) }
    #expect(throws: RiskControlError.self) { try monitor.add(.nan) }
    #expect(monitor.count == 0)
    #expect(throws: RiskControlError.self) { try RiskMonitor(epsilon: 0.1, leastLoss: -2) }
  }

  @Test func `an alarm stands, and the state reads back`() throws {
    var monitor = try RiskMonitor(epsilon: 0.05)
    for _ in 0..<20 { try monitor.add(1) }
    let alarm = try #require(monitor.alarmAt)
    #expect(alarm < 10 && monitor.pValue <= 0.1)
    for _ in 0..<2000 { try monitor.add(0) }
    #expect(monitor.alarmAt == alarm && monitor.logCapital < 0)
    let back = try JSONDecoder().decode(RiskMonitor.self, from: JSONEncoder().encode(monitor))
    #expect(back == monitor)
  }

  // MARK: - The log

  private static let header = AuditLog.Header(
    certificate: "ab12", epsilon: 0.05, delta: 0.1, metric: "rouge-l")

  @Test func `a log is the state, over restarts and between two writers`() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path + "/audit.jsonl"
    var expected = try RiskMonitor(epsilon: 0.05)
    var generator = SeededGenerator(seed: 205)
    let losses = (0..<60).map { _ in loss(0.08, &generator) }
    do {
      let first = try AuditLog(path: path, header: Self.header)
      let second = try AuditLog(path: path, header: Self.header)
      for (number, loss) in losses.enumerated() {
        let writer = number % 3 == 0 ? first : second
        try expected.add(loss)
        #expect(try writer.append(.init(loss: loss, time: Double(number))) == expected)
      }
    }
    let read = try AuditLog.read(path: path)
    #expect(read.monitor == expected && read.header == Self.header && read.entries.map(\.loss) == losses)
    #expect(try AuditLog(path: path, header: Self.header).monitor == expected)
  }

  @Test func `writers at the same time lose nothing`() async throws {
    let folder = try TemporaryDirectory()
    let path = folder.path + "/audit.jsonl"
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          // A descriptor of its own, as another process has.
          let log = try AuditLog(path: path, header: Self.header)
          for _ in 0..<50 { try log.append(.init(loss: 0.25)) }
        }
      }
      try await group.waitForAll()
    }
    let read = try AuditLog.read(path: path)
    #expect(read.entries.count == 200)
    #expect(abs(read.monitor.meanLoss - 0.25) < 1e-12)
  }

  @Test func `a line that is being written is no audit yet, and one cut off by a crash is dropped`() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path + "/audit.jsonl"
    let log = try AuditLog(path: path, header: Self.header)
    try log.append(.init(loss: 0.5))
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    try (whole + Data("{\"loss\":0.".utf8)).write(to: URL(fileURLWithPath: path))
    #expect(try AuditLog.read(path: path).entries.count == 1)
    let next = try AuditLog(path: path, header: Self.header)
    #expect(try next.append(.init(loss: 0.25)).count == 2)
    #expect(try AuditLog.read(path: path).entries.map(\.loss) == [0.5, 0.25])
  }

  @Test func `logs of another certificate and damaged ones are refused and left as they are`() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path + "/audit.jsonl"
    try AuditLog(path: path, header: Self.header).append(.init(loss: 0.5))
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    var other = Self.header
    other.certificate = "cd34"
    func message(_ header: AuditLog.Header) -> String {
      do throws(RiskControlError) {
        _ = try AuditLog(path: path, header: header)
        return "no error"
      } catch { return error.description }
    }
    #expect(message(other).contains("is the audit log of another certificate, ab12"))
    other = Self.header
    other.epsilon = 0.1
    #expect(message(other).contains("is the audit log of other settings"))
    let log = try AuditLog(path: path, header: Self.header)
    #expect(throws: RiskControlError.self) { try log.append(.init(loss: 1.5)) }
    #expect(throws: RiskControlError.self) { try log.append(.init(loss: .nan)) }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    try (before + Data("nonsense\n{\"loss\":0.5}\n".utf8)).write(to: URL(fileURLWithPath: path))
    #expect(message(Self.header).contains("line 3 is no audit"))
    #expect(throws: RiskControlError.self) { try AuditLog.read(path: path) }
    _ = try folder.write("other.jsonl", "{\"text\": 1}\n")
    #expect(throws: RiskControlError.self) {
      try AuditLog(path: folder.path + "/other.jsonl", header: Self.header)
    }
    #expect(throws: RiskControlError.self) { try AuditLog(path: folder.path, header: Self.header) }
  }
}
