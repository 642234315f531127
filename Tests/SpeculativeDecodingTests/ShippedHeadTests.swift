import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// The draft head that comes with the program, on the model that `make test` fetches.
@Suite(.enabled(if: DefaultModel.path != nil, "the default model has not been fetched"))
struct ShippedHeadTests {
  @Test func `the shipped draft head changes nothing in a summary, and guesses a part of it`() throws {
    let path = try #require(DefaultModel.path)
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let head = try DraftHead(
      path: root.appendingPathComponent("Weights/drafts/smollm2-135m-instruct.safetensors").path,
      modelDigest: FileDigest.sha256(model: path))
    let model = try LanguageModel(path: path, threads: 2)
    let article = try String(
      contentsOf: root.appendingPathComponent("Examples/tide-mill.txt"), encoding: .utf8)
    let prompt = try model.prompt(for: .summarize, document: article)
    let options = GenerationOptions(maxTokens: 80)
    let expected = try model.plain(prompt, options)
    let found = try run(
      SpeculationStrategy([.head(head)], for: model, rule: .exact, fallback: 0, draftLength: 3).makeSession(
        prompt: prompt, options: options, choosesLength: false))
    #expect(found.generation == expected)
    // An article is not what it was trained on; a head that does not belong to the model's states guesses next to
    // nothing.
    #expect(found.statistics.accepted * 12 > found.statistics.drafted)
    // After a prompt that stopped it guesses from what there is of it.
    var stopped = options
    stopped.promptDepth = 24
    let after = try run(
      SpeculationStrategy([.head(head)], for: model, rule: .exact, fallback: 0, draftLength: 3).makeSession(
        prompt: prompt, options: stopped, choosesLength: false))
    #expect(try after.generation == model.plain(prompt, stopped))
    #expect(after.statistics.accepted * 12 > after.statistics.drafted)
  }
}
