import LossTables
import RiskControl

func classifierTable() throws -> LossTable {
  // snippet
  // Two exits, two samples, two classes.
  let outputs = try ClassifierOutputs(
    logits: [2, 1, 0, 3, 5, 1, 0, 4], exitCount: 2, classCount: 2, labels: [0, 1])
  let table = try outputs.table(risk: .brierGap, confidence: .top1, exitCosts: [1, 2])
  print("\(table.sampleCount) samples at \(table.thresholds.count) thresholds")
  // end
  return table
}
