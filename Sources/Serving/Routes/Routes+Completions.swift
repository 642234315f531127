import Generation
import Hummingbird
import RiskControl
import Transformers

extension Routes {
  @Sendable func chat(_ request: Request, _ context: ServingContext) async throws -> Response {
    var fields = try await fields(request, context)
    let asked = try ChatRequest(&fields)
    try check(asked.settings.model)
    let prompt: [TokenID]
    do {
      prompt = try served.model.prompt(messages: asked.messages)
    } catch {
      throw Self.promptError(error, param: "messages")
    }
    let works = try works([prompt], asked.settings, param: "messages")
    return try await answer(.chat, works, echoes: works.map { _ in "" }, asked.settings, context)
  }

  @Sendable func completions(_ request: Request, _ context: ServingContext) async throws -> Response {
    var fields = try await fields(request, context)
    let asked = try CompletionRequest(&fields)
    try check(asked.settings.model)
    let size = served.model.tokenizer.vocabularySize
    var prompts: [[TokenID]] = []
    var echoes: [String] = []
    for prompt in asked.prompts {
      do {
        switch prompt {
        case .text(let text):
          prompts.append(try served.model.prompt(raw: text))
          echoes.append(text)
        case .tokens(let tokens):
          guard tokens.allSatisfy({ (0..<size).contains($0) }) else {
            throw APIError.invalid("prompt: expected tokens in 0..<\(size), found another", param: "prompt")
          }
          prompts.append(tokens)
          echoes.append(asked.echoes ? try served.model.tokenizer.decode(tokens) : "")
        }
      } catch {
        throw Self.promptError(error, param: "prompt")
      }
    }
    let works = try works(prompts, asked.settings, param: "prompt")
    let count = asked.settings.count
    return try await answer(
      .completion, works,
      echoes: works.indices.map { asked.echoes ? echoes[$0 / count] : "" }, asked.settings, context)
  }

  /// What a template or a tokenizer refuses is the request's fault.
  static func promptError(_ error: any Error, param: String) -> APIError {
    let answer = APIError.from(error, prompt: param)
    return answer.status == 500 ? .invalid("\(param): \(error)", param: param) : answer
  }

  /// The outputs of a request: all of the first prompt, then all of the next.
  private func works(
    _ prompts: [[TokenID]], _ settings: OutputSettings, param: String
  ) throws -> [EngineWork] {
    let grammar: OutputGrammar?
    do {
      grammar = try settings.format.grammar(served.model)
    } catch {
      throw APIError.from(error, prompt: "response_format")
    }
    let works = try prompts.flatMap { prompt in
      try (0..<settings.count).map { index in
        var options = settings.options(
          index, usual: param == "prompt" ? CompletionRequest.usualMaxTokens : usualMaxTokens(after: prompt),
          context: configuration.context)
        options.grammar = grammar
        try validate(prompt, options, param: param)
        return EngineWork(prompt: prompt, options: options)
      }
    }
    guard works.count <= configuration.slots + configuration.queue else {
      throw APIError.invalid(
        "n: expected at most \(configuration.slots + configuration.queue) outputs", param: "n")
    }
    return works
  }

  /// Decodes the outputs of a request and tells them, whole or as they come.
  private func answer(
    _ kind: Reply.Kind, _ works: [EngineWork], echoes: [String], _ settings: OutputSettings,
    _ context: ServingContext
  ) async throws -> Response {
    var reply = Reply(kind, model: served.name, fingerprint: served.fingerprint)
    reply.includesUsage = settings.includesUsage
    reply.tokens = settings.topProbabilities.map { _ in TokenProbabilities(served.model) }
    let promptTokens = stride(from: 0, to: works.count, by: settings.count).reduce(0) {
      $0 + works[$1].prompt.count
    }
    let request = try await begin(works, context)
    let seed = settings.seed
    func egress(_ outputs: [Generation]) -> JSONValue { egressObject(outputs, seed: seed) }
    guard settings.streams else {
      let outputs = try await request.outputs()
      let used = outputs.reduce(0) { $0 + $1.tokenIDs.count }
      return Self.respond(
        reply.whole(
          zip(outputs, echoes).map { Reply.Output(generation: $0, echo: $1) },
          usage: Reply.usage(promptTokens: promptTokens, outputTokens: used), egress: egress(outputs)))
    }
    return request.stream { [reply, self] write in
      var opened: Set<Int> = []
      var offsets = echoes.map { _ in 0 }
      var used = 0
      for try await event in request.events {
        switch event {
        case .token(let index, let step):
          used += 1
          if opened.insert(index).inserted, let opening = reply.opening(index, echo: echoes[index]) {
            try await write(opening)
          }
          let told = reply.tokens.flatMap { $0.told(step) }
          if !step.text.isEmpty || told != nil {
            try await write(
              reply.chunk(index, text: step.text, logprobs: reply.logprobs(told, offset: &offsets[index])))
          }
        case .finished(let index, let generation):
          try await write(
            reply.ending(
              index, generation.stopReason,
              egress: egressObject([generation], seed: seed.map { $0 &+ UInt64(index) })))
        }
      }
      if reply.includesUsage {
        try await write(reply.closing(usage: Reply.usage(promptTokens: promptTokens, outputTokens: used)))
      }
    }
  }

  /// What is told of outputs beside OpenAI's fields.
  func egressObject(_ outputs: [Generation], seed: UInt64?) -> JSONValue {
    let layers = outputs.flatMap(\.layers)
    let average = layers.isEmpty ? nil : Double(layers.reduce(0, +)) / Double(layers.count)
    return .object([
      // Certificates are of tasks on documents.
      "certificate": .null, "guard": .null, "average_layer": .optional(average),
      "layer_count": .integer(served.layerCount),
      // As a text: not every reader of JSON keeps 64 bits.
      "seed": .optional(seed.map { "\($0)" }),
    ])
  }
}
