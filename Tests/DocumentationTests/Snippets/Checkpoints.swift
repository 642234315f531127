import Checkpoints

func normWeights(of path: String) throws -> [Float] {
  // snippet
  let checkpoint = try Checkpoint.open(path)
  let configuration = checkpoint.configuration
  print("\(configuration.layerCount) layers of \(configuration.hiddenSize) numbers")
  let norm = try checkpoint.tensor("output_norm.weight")
  print("\(norm.name): \(norm.shape), \(norm.format.name)")
  let weights = norm.makeFloats()
  // end
  return weights
}
