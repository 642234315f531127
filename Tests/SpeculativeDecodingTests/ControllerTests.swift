import SpeculativeDecoding
import TestSupport
import Testing

/// Decoding where every duration and every chance is given.
private struct Machine {
  /// What a pass over k rows costs, in passes over one: 1 + (k - 1) slope.
  var slope: Double
  /// By drafter.
  var drafters: [Drafter]
  var noise = 0.1

  struct Drafter {
    /// The chance that a drafted token is right, whatever came before.
    var right: Double
    /// What one drafted token costs really.
    var cost = 0.0
    var profile = DrafterProfile(writer: .lookup)
  }

  /// Seconds for `count` tokens by the controller's choices, in those of plain decoding; and the last choices.
  func run(_ count: Int, _ controller: inout DraftLengthController, seed: UInt64) -> (
    time: Double, choices: [DraftLengthController.Choice?]
  ) {
    var random = SplitMix64(seed: seed)
    var time = 0.0
    var tokens = 0
    var choices: [DraftLengthController.Choice?] = []
    while tokens < count {
      let choice = controller.choose(
        drafters.indices.map { DraftLengthController.Offer(drafter: $0, available: 10) })
      let length = choice?.length ?? 0
      let chance = choice.map { drafters[$0.drafter].right } ?? 0
      var accepted = 0
      while accepted < length, Double.random(in: 0..<1, using: &random) < chance { accepted += 1 }
      let factor = 1 + Double.random(in: -noise...noise, using: &random)
      let verify = (1 + slope * Double(length)) * factor
      let draft = (choice.map { drafters[$0.drafter].cost } ?? 0) * Double(length) * factor
      controller.note(
        .init(
          choice: choice, drafted: length, accepted: accepted, tokens: accepted + 1, draftSeconds: draft,
          verifySeconds: verify))
      time += verify + draft
      tokens += accepted + 1
      choices.append(choice)
    }
    return (time / Double(tokens), choices)
  }

  /// What the best fixed choice would reach.
  var best: Double {
    var best = 1.0
    for drafter in drafters {
      var tokens = 1.0
      var chance = drafter.right
      for length in 1...10 {
        tokens += chance
        chance *= drafter.right
        best = min(best, (1 + (slope + drafter.cost) * Double(length)) / tokens)
      }
    }
    return best
  }

  var controller: DraftLengthController { DraftLengthController(drafters.map(\.profile)) }
}

struct ControllerTests {
  @Test("Speculation never costs 3 % of plain decoding, however wrong the drafts and dear the rows")
  func neverSlower() {
    for slope in [0.05, 0.1, 0.27, 0.6, 1] {
      for right in [0, 0.1, 0.3, 0.5] {
        let machine = Machine(slope: slope, drafters: [.init(right: right)])
        for seed in 0..<5 as Range<UInt64> {
          var controller = machine.controller
          let long = machine.run(2000, &controller, seed: seed).time
          #expect(long < 1.03, "slope \(slope), right \(right)")
        }
        // Short outputs, the controller handed on from one to the next.
        var controller = machine.controller
        var total = 0.0
        for seed in 0..<40 as Range<UInt64> { total += machine.run(50, &controller, seed: seed).time }
        #expect(total / 40 < 1.03, "slope \(slope), right \(right)")
      }
    }
  }

  @Test("A first output of few tokens loses little to drafts that are always wrong")
  func shortAndNew() {
    for slope in [0.05, 0.1, 0.27, 0.6] {
      for cost in [0, 0.05, 0.3] {
        let profile = DrafterProfile(writer: .draft, costPerToken: cost)
        let machine = Machine(
          slope: slope, drafters: [.init(right: 0), .init(right: 0, cost: cost, profile: profile)], noise: 0)
        var controller = machine.controller
        // 2 % of the time, a third of a token, and what a guess at an unknown slope was off by.
        let lost = 25 * (machine.run(25, &controller, seed: 0).time - 1)
        #expect(lost < 1.1, "slope \(slope), cost \(cost)")
      }
    }
  }

  @Test("What drafts cost alone says nothing of passes that others share")
  func company() {
    let alone = Machine(slope: 0.05, drafters: [.init(right: 0.7)])
    let shared = Machine(slope: 0.95, drafters: [.init(right: 0.7)])
    var controller = alone.controller
    _ = alone.run(2000, &controller, seed: 0)
    var total = 0.0
    for seed in 1..<9 as Range<UInt64> {
      controller.others = 7
      #expect(shared.run(60, &controller, seed: seed).time < 1.03)
      controller.others = 0
      total += alone.run(200, &controller, seed: seed).time
    }
    #expect(total / 8 < alone.best * 1.1)
  }

  @Test("The gain is near that of the best fixed length", arguments: [0.5, 0.7, 0.9, 0.97])
  func nearTheBest(right: Double) {
    for slope in [0.05, 0.1, 0.27] {
      let machine = Machine(slope: slope, drafters: [.init(right: right)])
      var controller = machine.controller
      let found = machine.run(3000, &controller, seed: 1).time
      #expect(found < machine.best * 1.08, "slope \(slope)")
    }
  }

  @Test("Of several drafters the one that pays is used, and a dear one that does not is left alone")
  func several() {
    let dear = DrafterProfile(writer: .draft, costPerToken: 0.2)
    for (right, used) in [([0.1, 0.9], 1), ([0.8, 0.3], 0)] {
      let machine = Machine(
        slope: 0.1,
        drafters: [.init(right: right[0]), .init(right: right[1], cost: 0.2, profile: dear)])
      var controller = machine.controller
      let found = machine.run(3000, &controller, seed: 2)
      #expect(found.time < machine.best * 1.08)
      let last = found.choices.suffix(200).compactMap { $0?.drafter }
      #expect(last.count { $0 == used } * 10 > last.count * 9)
    }
    // Dearer than its profile says: drafting alone takes longer than plain decoding.
    let machine = Machine(slope: 0.1, drafters: [.init(right: 0.9, cost: 1.2, profile: dear)])
    var controller = machine.controller
    let found = machine.run(3000, &controller, seed: 3)
    #expect(found.time < 1.03)
    #expect(found.choices.suffix(500).count { $0 != nil } < 30)
  }

  @Test("A text that begins to copy is noticed")
  func change() {
    let wrong = Machine(slope: 0.27, drafters: [.init(right: 0.02)])
    var controller = wrong.controller
    _ = wrong.run(1000, &controller, seed: 4)
    let right = Machine(slope: 0.27, drafters: [.init(right: 0.95)])
    _ = right.run(600, &controller, seed: 5)
    #expect(right.run(300, &controller, seed: 6).time < right.best * 1.15)
  }

  @Test(
    "A free guess that another drafter confirms is drafted further, and the two gain more than either alone")
  func confirmed() {
    // Three times in ten both guess the same, and then nearly all of it is right; else the free guess is nearly always
    // wrong.
    func run(_ offered: [Int], seed: UInt64) -> Double {
      var random = SplitMix64(seed: seed)
      var controller = DraftLengthController([
        DrafterProfile(writer: .lookup),
        DrafterProfile(writer: .draft, costPerToken: 0.07, readsLayers: [3]),
      ])
      var (time, tokens) = (0.0, 0)
      while tokens < 3000 {
        let agrees = Int.random(in: 0..<10, using: &random) < 3
        let choice = controller.choose(
          offered.map { DraftLengthController.Offer(drafter: $0, available: 10) })
        var length = choice?.length ?? 0
        var chance = choice?.drafter == 0 && !agrees ? 0.1 : agrees ? 0.9 : 0.5
        var drafting = choice?.drafter == 1 ? 0.07 * Double(length) : 0
        var kind: GuessKind = choice?.drafter == 1 && offered.count == 2 ? .differing : .own(evidence: 0)
        if let guess = choice?.confirming, agrees {
          (length, kind) = (guess.length, .confirmed(evidence: guess.evidence))
          (chance, drafting) = (0.9, 0.07)
        }
        var accepted = 0
        while accepted < length, Double.random(in: 0..<1, using: &random) < chance { accepted += 1 }
        let verify = 1 + 0.1 * Double(length)
        controller.note(
          .init(
            choice: choice, kind: kind, drafted: length, accepted: accepted, tokens: accepted + 1,
            draftSeconds: drafting, verifySeconds: verify))
        time += verify + drafting
        tokens += accepted + 1
      }
      return time / Double(tokens)
    }
    for seed in 0..<3 as Range<UInt64> {
      let (lookup, head, both) = (run([0], seed: seed), run([1], seed: seed), run([0, 1], seed: seed))
      #expect(both < 0.95 * min(lookup, head), "\(lookup), \(head), \(both)")
    }
  }
}
