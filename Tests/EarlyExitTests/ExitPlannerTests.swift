import EarlyExit
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct ExitPlannerTests {
  /// Right and sure from layer 2 on for even tokens, from the last on for odd ones; 4 layers.
  private let model = LanguageModel.scripted(
    ScriptedModel(layerCount: 4) { history, layer in
      let index = history.count - 2
      var logits = [Float](repeating: 0, count: 320)
      logits[100 + index] = layer >= (index % 2 == 0 ? 2 : 4) ? 12 : 0
      logits[99] = 0.5
      return logits
    })
  private let heads = ExitHeads(shortlist: Array(90..<130))
  private let costs = ExitCosts(
    layer: [10, 11, 12], head: 20, exitHead: 5, gate: 0.5, propagatedLayer: 1)

  private func traces() throws -> ExitTraces {
    var traces = try ExitTraces(model: model, layers: [2, 3, 4], heads: heads)
    for _ in 0..<2 {
      let session = try model.makeSession(prompt: [1, 2], options: GenerationOptions(maxTokens: 9))
      while try session.next() != nil {}
      #expect(session.generation.tokenIDs == Array(100..<109))
      try traces.add(session.generation)
    }
    return traces
  }

  @Test func `costs are those of every layer, look, head and cache`() throws {
    let traces = try traces()
    #expect(traces.tokenCount == 16)
    let planner = try ExitPlanner(traces: traces, costs: costs, heads: heads)
    #expect(planner.fullDepth.cost == 60)

    // Tokens 1 to 8 of each text: odd ones stay, even ones leave after layer 2.
    let propagated = planner.evaluate([2], .softmax, .propagate, 0.9)
    #expect(propagated.agreement == 1 && propagated.averageLayer == 3)
    // 40 + 20 + 5 for those that stay, 20 + 5 + 2 for those that leave.
    #expect(propagated.cost == 46)

    // A token that stays takes the one before it along through layers 3 and 4; the first has none before it.
    let deferred = planner.evaluate([2], .softmax, .defer, 0.9)
    let (looks, heads, firstTwo, rest): (Double, Double, Double, Double) = (40, 80, 160, 20 + 66)
    #expect(deferred.cost == (looks + heads + firstTwo + rest) / 8)

    // All leave at the first exit, half of them wrongly.
    let all = planner.evaluate([2], .softmax, .propagate, 0)
    #expect(all.agreement == 0.5 && all.averageLayer == 2 && all.cost == 27)
    // Saturation looks for the price of a gate, and the head runs once.
    #expect(planner.evaluate([2, 3], .saturation, .propagate, 0).cost == 27.5)
    // The last layer's own exit, never refused.
    let last = planner.evaluate([4], .softmax, .defer, 0.9)
    #expect(last.agreement == 1 && last.averageLayer == 4 && last.cost == 45)
  }

  @Test func `the cheapest way that agrees is chosen, and full depth where none pays`() throws {
    let traces = try traces()
    let best = try ExitPlanner(traces: traces, costs: costs, heads: heads).best(agreement: 1)
    #expect(best.layers == [2, 4] && best.measure == .softmax)
    #expect(best.cost < 40)
    let sloppy = try ExitPlanner(traces: traces, costs: costs, heads: heads).best(agreement: 0.5)
    #expect(sloppy.layers.first == 2 && sloppy.cost <= 27.5)
    var dear = costs
    dear.exitHead = 1000
    let planner = try ExitPlanner(traces: traces, costs: dear, heads: heads)
    #expect(planner.best(agreement: 0) == planner.fullDepth)
  }

  @Test func `a plan is read back, and a machine is measured`() throws {
    let planner = try ExitPlanner(traces: traces(), costs: costs, heads: heads)
    let plan = ExitPlan(
      planner.best(agreement: 1), planner: planner, headsDigest: "h", modelDigest: "m", unit: "ms")
    #expect(try ExitPlan.read(plan.jsonData(), name: "plan.json") == plan)
    #expect(throws: EarlyExitError.self) { try ExitPlan.read(Array("{}".utf8), name: "plan.json") }
    let measured = try ExitCosts.measured(model.decoder, heads: heads, context: 20, rounds: 1)
    #expect(measured.layer.count == 16 && measured.layer.allSatisfy { $0 > 0 } && measured.head > 0)
  }

  @Test func `bytes follow the shape`() {
    let costs = ExitCosts.bytes(
      hiddenSize: 576, feedForwardSize: 1536, attentionSize: 576, keyValueSize: 192, vocabularySize: 49_152,
      bitsPerWeight: 5, shortlist: 4096)
    // 3,538,944 weights a layer, and a head of 28 million of 8.5 bits.
    #expect(costs.layer[0] == 3_538_944 * 5 / 8)
    #expect(costs.head == 49_152 * 576 * 8.5 / 8)
    #expect(costs.exitHead == (576 + 4196) * 576 * 8.5 / 8)
    #expect(costs.propagatedLayer == 576 * 384 * 5 / 8)
  }
}
