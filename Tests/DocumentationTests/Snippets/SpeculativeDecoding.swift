import Generation
import SpeculativeDecoding

func draft(for model: LanguageModel, _ prompt: [Int]) throws -> Generation {
  // snippet
  let drafts = try SpeculationStrategy([.promptLookup], for: model, rule: .exact)
  let session = try drafts.makeSession(prompt: prompt, options: GenerationOptions(maxTokens: 16))
  while try session.next() != nil {}
  let statistics = session.statistics
  print("\(statistics.accepted) of \(statistics.drafted) drafted tokens stand in the output")
  // end
  return session.generation
}
