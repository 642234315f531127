import ArgumentParser
import EarlyExit

/// What costs are counted in.
enum CostUnit: String, ExpressibleByArgument, CaseIterable { case ms, bytes }

/// What is printed of a plan of exits.
struct ExitPlanText {
  let planner: ExitPlanner
  let unit: CostUnit

  /// What the parts cost, what is cheapest by agreement, and what was chosen.
  func table(_ best: ExitPlanner.Option, agreement: Double, tokens: Int) -> String {
    let scale = unit == .ms ? 1 : 1e-6
    let name = unit == .ms ? "ms" : "MB"
    let full = planner.fullDepth
    func line(_ option: ExitPlanner.Option) -> String {
      guard !option.layers.isEmpty else {
        return "full depth: \((full.cost * scale).formatted(places: 3)) \(name) a token"
      }
      return "\(option.layers.map(String.init).joined(separator: ",")) by \(option.measure.rawValue) from "
        + "\(option.threshold.formatted(places: 4)), \(option.cache.rawValue): agreement "
        + "\(option.agreement.formatted(places: 3)), \((option.cost * scale).formatted(places: 3)) \(name) a token, "
        + "\((full.cost / option.cost).formatted(places: 2)) times faster than full depth"
    }
    let costs = planner.costs
    var lines = [
      "a layer \((costs.layer[0] * scale).formatted(places: 4)) \(name), head "
        + "\((costs.head * scale).formatted(places: 4)), exit head \((costs.exitHead * scale).formatted(places: 4)), "
        + "gate \((costs.gate * scale).formatted(places: 4)), keys and values of a skipped layer "
        + "\((costs.propagatedLayer * scale).formatted(places: 4))",
      "cheapest of what agrees with full depth, on \(tokens.grouped) tokens:",
    ]
    for share in [0.99, 0.98, 0.95, 0.9, 0.8] {
      lines.append("at least \(share.formatted(places: 2))  \(line(planner.best(agreement: share)))")
    }
    lines.append("chosen for \(agreement.formatted(places: 2)): \(line(best))")
    return lines.joined(separator: "\n") + "\n"
  }

  /// The same exits on larger models: as deep in parts of the layers, and as sure.
  static func larger(_ traces: ExitTraces, _ heads: ExitHeads, _ best: ExitPlanner.Option) throws
    -> String
  {
    try ModelShape.larger.map { name, shape in
      var costs = shape.costs(shortlist: heads.shortlist.count)
      let ratio = Double(shape.layerCount) / Double(traces.layerCount)
      costs.layer = costs.layer.map { $0 * ratio }
      costs.propagatedLayer *= ratio
      let planner = try ExitPlanner(traces: traces, costs: costs, heads: heads)
      let option = planner.evaluate(best.layers, best.measure, best.cache, best.threshold)
      return "\(name): head \((costs.head / costs.layer[0] * ratio).formatted(places: 1)) layers; "
        + "\((planner.fullDepth.cost / option.cost).formatted(places: 2)) times fewer bytes than full depth\n"
    }.joined()
  }
}
