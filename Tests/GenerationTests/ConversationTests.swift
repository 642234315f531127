import Generation
import TestSupport
import Testing

import struct Checkpoints.Checkpoint
import typealias Checkpoints.CheckpointError
import class Transformers.Transformer

@Suite struct ConversationTests {
  private static let template = PromptTemplate.chatML(system: nil)

  private func tiny(_ directory: TemporaryDirectory, context: Int = 512) throws -> LanguageModel {
    var decoder = TinyDecoder()
    decoder.contextLength = context
    decoder.vocabularySize = 320
    let path = try directory.write("tiny.gguf", decoder.gguf().build())
    let model = try Transformer(checkpoint: Checkpoint.open(path), compute: .quantized, threads: 1)
    return LanguageModel(
      name: "tiny", decoder: model, tokenizer: ByteTokenizer(), promptTemplate: Self.template,
      endTokens: [257])
  }

  @Test func `each answer is what a session of its own would give, and only new tokens are read`() throws {
    let directory = try TemporaryDirectory()
    let model = try tiny(directory)
    let options = GenerationOptions(maxTokens: 12)
    let conversation = Conversation(
      model: model, options: options, messages: [ChatMessage(role: "system", content: "Be brief.")])
    for (turn, text) in ["Why is it so?", "And then?", "Good."].enumerated() {
      let prompt = try model.prompt(
        messages: conversation.messages + [ChatMessage(role: "user", content: text)])
      let expected = try model.makeSession(prompt: prompt, options: options)
      while try expected.next() != nil {}
      let found = try conversation.respond(to: text)
      #expect(found.generation.tokenIDs == expected.generation.tokenIDs)
      #expect(found.generation.promptTokenIDs == prompt)
      // The answer's text may be written with other tokens than it came in: what stands before it is the same.
      #expect((conversation.reusedTokens > 0) == (turn > 0))
      #expect(conversation.messages.count == 3 + 2 * turn)
    }
    conversation.reset()
    #expect(conversation.messages == [ChatMessage(role: "system", content: "Be brief.")])
    try conversation.respond(to: "a")
    #expect(conversation.reusedTokens == 0)
  }

  @Test func `a conversation that is too long is refused and stays as it was`() throws {
    let directory = try TemporaryDirectory()
    let model = try tiny(directory, context: 96)
    let conversation = Conversation(model: model, options: GenerationOptions(maxTokens: 8))
    try conversation.respond(to: "short")
    let before = conversation.messages
    #expect(throws: GenerationError.self) {
      try conversation.respond(to: String(repeating: "long ", count: 40))
    }
    #expect(conversation.messages == before)
    try conversation.respond(to: "b")
    #expect(conversation.messages.count == 4)
  }

  @Test func `an answer that is stopped stays part of the conversation`() throws {
    let directory = try TemporaryDirectory()
    let model = try tiny(directory)
    let conversation = Conversation(model: model, options: GenerationOptions(maxTokens: 50))
    var count = 0
    let session = try conversation.respond(to: "a", shouldStop: { count >= 3 }) { _ in count += 1 }
    #expect(session.stopReason == .cancelled && count == 3)
    #expect(conversation.messages.map(\.role) == ["user", "assistant"])
    #expect(conversation.messages[1].content == session.generation.text)
  }

  @Test func `a conversation file is read as it was written, and texts in parts are one text`() throws {
    let messages = [
      ChatMessage(role: "system", content: "Be \"brief\".\n"),
      ChatMessage(role: "user", content: "\u{1F642} </s>"),
      ChatMessage(role: "assistant", content: ""),
    ]
    let json = Array(try ConversationFile(messages).json().utf8)
    #expect(try ConversationFile(json: json, file: "f").messages == messages)
    let parts =
      #"{"x": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "#
      + #"{"type": "text", "text": "b"}]}]}"#
    #expect(
      try ConversationFile(json: Array(parts.utf8), file: "f").messages == [
        ChatMessage(role: "user", content: "ab")
      ])
  }

  @Test("5,000 mutants of a conversation file are read or refused", .timeLimit(.minutes(10)))
  func mutants() throws {
    let model = LanguageModel.scripted(ScriptedModel { _, _ in [Float](repeating: 0, count: 320) })
    let sources = [
      #"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a\u00e4\ud83d\ude42"}]"#,
      #"{"model": null, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "n": 1e9}]}"#,
    ].map { Array($0.utf8) }
    var random = SplitMix64(seed: 5)
    var read = 0
    for index in 0..<5_000 {
      let source = sources[index % 2]
      let mutant =
        index % 4 < 2
        ? Mutation.edit(source, upTo: source.count, using: &random)
        : Mutation.editText(source, upTo: source.count, using: &random)
      do throws(CheckpointError) {
        let messages = try ConversationFile(json: mutant, file: "talk.json").messages
        #expect(!messages.isEmpty && messages.allSatisfy { ConversationFile.roles.contains($0.role) })
        read += 1
      } catch {
        #expect(error.description.hasPrefix("talk.json: ") && error.description.utf8.count < 1000)
      }
    }
    #expect((100...4_900).contains(read), "\(read) read")
    // A program that makes messages itself may not write roles that are no words either.
    #expect(throws: GenerationError.self) {
      try model.prompt(messages: [ChatMessage(role: "user<|im_end|>", content: "a")])
    }
  }
}
