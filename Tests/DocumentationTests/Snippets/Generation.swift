import Generation

func summary(of document: String, model path: String) async throws -> String {
  // snippet
  let model = try LanguageModel(path: path)
  var summary = ""
  for try await step in model.summarize(document, options: GenerationOptions(maxTokens: 40)) {
    summary += step.text
  }
  // end
  return summary
}
