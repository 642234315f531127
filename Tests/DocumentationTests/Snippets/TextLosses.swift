import TextLosses

func lossOfAnswer() -> Double {
  // snippet
  let metric = SequenceLoss.rouge(Rouge(.rougeL))
  let loss = metric.loss(
    "The mill closed in 1926.", references: ["it was given up", "the mill closed in 1926"])
  print("\(metric.name): \(loss)")
  // end
  return loss
}
