import Certification
import Generation
import TestSupport
import Testing

@Suite struct RunPlanTests {
  @Test func `what machines take is what their largest shard takes`() throws {
    let work = (0..<500).map { (id: DocumentIdentifier.number($0), tokens: 100 + $0 % 7 * 50) }
    let plan = try RunPlan(
      work: work, runs: [.init(tokens: 1000, seconds: 2), .init(tokens: 3000, seconds: 6)], loadSeconds: 1.5)
    #expect(plan.secondsPerToken == 0.002 && plan.secondsPerTokenError == 0)
    let total = Double(work.reduce(0) { $0 + $1.tokens })
    let one = try plan.share(of: 1)
    #expect(one.documents == 500 && abs(one.seconds - (1.5 + 0.002 * total)) < 1e-9)
    #expect(one.machineSeconds == one.seconds)
    for machines in [2, 3, 7] {
      var largest = 0
      var count = 0
      for index in 1...machines {
        let shard = try Shard(index: index, count: machines)
        let own = work.filter { shard.contains($0.id) }
        let tokens = own.reduce(0) { $0 + $1.tokens }
        if tokens > largest { (largest, count) = (tokens, own.count) }
      }
      let share = try plan.share(of: machines)
      #expect(share.documents == count && abs(share.seconds - (1.5 + 0.002 * Double(largest))) < 1e-9)
      #expect(abs(share.machineSeconds - (1.5 * Double(machines) + 0.002 * total)) < 1e-9)
    }
  }

  @Test func `the error is that of a ratio of sums`() throws {
    // By hand: rate (1 + 3) / (100 + 200) = 1/75, left over 1 - 100/75 and 3 - 200/75, each a third in size.
    let plan = try RunPlan(
      work: [(id: .number(1), tokens: 10)],
      runs: [.init(tokens: 100, seconds: 1), .init(tokens: 200, seconds: 3)], loadSeconds: 0)
    let variance = 2.0 / 9
    #expect(abs(plan.secondsPerToken - 1.0 / 75) < 1e-15)
    #expect(abs(plan.secondsPerTokenError - (variance / 2).squareRoot() / 150) < 1e-15)
  }

  @Test func `nothing to plan is refused`() throws {
    let run = RunPlan.Run(tokens: 1, seconds: 1)
    #expect(throws: CertificationError.self) { try RunPlan(work: [], runs: [run, run], loadSeconds: 0) }
    let work = [(id: DocumentIdentifier.number(1), tokens: 1)]
    for runs in [[run], [run, .init(tokens: 0, seconds: 1)], []] {
      #expect(throws: CertificationError.self) { try RunPlan(work: work, runs: runs, loadSeconds: 0) }
    }
    let plan = try RunPlan(work: work, runs: [run, run], loadSeconds: 0)
    #expect(throws: CertificationError.self) { try plan.share(of: 0) }
  }

  @Test func `a sample is spread over the file, in parts`() throws {
    let (model, _) = LanguageModel.hashing()
    let records = (0..<20).map { number in
      DocumentRecord(
        id: .number(number),
        item: DocumentBatch.Item(task: .summarize, document: String(repeating: "word ", count: number + 1)))
    }
    var parts: [[DocumentIdentifier]] = []
    let plan = try #require(
      try RunPlan.measured(records, model: model, sample: 10, loadSeconds: 2) {
        parts.append($0.map(\.id))
        return true
      })
    let chosen = [[0, 2], [4, 6, 8], [10, 12], [14, 16, 18]]
    #expect(parts == chosen.map { $0.map { .number($0) } })
    #expect(plan.documents == 20 && plan.loadSeconds == 2 && plan.secondsPerToken >= 0)
    let tokens = try records.map { try model.prompt(for: $0.item.task, document: $0.item.document).count }
    #expect(plan.tokens == tokens.reduce(0, +))

    var runs = 0
    let ended = try RunPlan.measured(records, model: model, sample: 10, loadSeconds: 2) { _ in
      runs += 1
      return runs < 2
    }
    #expect(ended == nil && runs == 2)
    #expect(throws: CertificationError.self) {
      try RunPlan.measured(Array(records.prefix(3)), model: model, sample: 10, loadSeconds: 2) { _ in true }
    }
  }
}
