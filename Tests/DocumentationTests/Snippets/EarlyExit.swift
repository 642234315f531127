import EarlyExit
import Generation

func leaveEarly(_ model: LanguageModel, _ prompt: [Int]) throws -> Generation {
  // snippet
  let policy = try ThresholdPolicy(threshold: 0.5, layers: [1])
  let exits = ExitStrategy(policy: policy, measure: SoftmaxConfidence())
  let session = try model.makeSession(
    prompt: prompt, options: GenerationOptions(maxTokens: 16), strategy: exits)
  while let step = try session.next() {
    print("\(step.text) left after layer \(step.layer)")
  }
  let output = session.generation
  // end
  return output
}
