import EarlyExit
import Foundation
import Generation
import TestSupport
import Testing

// What docs/guides/exits.md shows, as it stands there.
struct Alternating: ExitPolicy {
  func exitLayers(layerCount: Int) -> [Int] { [20] }
  func decide(_ observation: ExitObservation) -> ExitDecision {
    observation.tokenIndex % 2 == 1 || observation.confidence >= 0.99
      ? .exit(layer: observation.layer, reason: .other("odd or sure")) : .continue
  }
}

@Suite struct OwnPolicyTests {
  private let model = LanguageModel.scripted(
    ScriptedModel(layerCount: 24) { history, layer in
      var logits = [Float](repeating: 0, count: 320)
      logits[97 + history.count % 20] = Float(layer)
      return logits
    })

  private func show(_ text: String) async throws {
    let exits = ExitStrategy(
      policy: Alternating(), measure: SaturationConfidence(), cachePolicy: .defer)
    for try await step in model.summarize(text, strategy: exits) { print(step.text, step.layer) }
  }

  @Test func `the example is what the documentation shows, and its policy decides`() async throws {
    try await show("some text")
    func lines(_ text: Substring) -> [String] {
      text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
    }
    let here = URL(fileURLWithPath: #filePath)
    let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let page = try String(contentsOf: root.appendingPathComponent("docs/guides/exits.md"), encoding: .utf8)
    let block = try #require(
      page.components(separatedBy: "```").first { $0.hasPrefix("swift\n") && $0.contains("ExitPolicy") })
    let source = lines(try String(contentsOf: here, encoding: .utf8)[...])
    let shown = lines(block.dropFirst("swift\n".count))
    #expect(shown.count >= 10 && shown.allSatisfy(source.contains))

    let session = try model.makeSession(
      prompt: [1, 2],
      options: GenerationOptions(
        maxTokens: 8), exits: ExitStrategy(policy: Alternating(), measure: SoftmaxConfidence()))
    var layers: [Int] = []
    while let step = try session.next() {
      layers.append(step.layer)
      if layers.count % 2 == 0 { #expect(step.depth?.reason == .other("odd or sure")) }
    }
    #expect(layers.count == 8 && layers.enumerated().allSatisfy { $0 % 2 == 0 || $1 == 20 })
  }
}
