import Generation
import RiskControl

/// What `/v1/chat/completions` and `/v1/completions` have in common: how outputs are decoded and told.
struct OutputSettings: Sendable {
  /// The model's name as it was asked for.
  var model: String?
  /// Tokens to generate; `nil` for the usual number.
  var maxTokens: Int?
  var sampling: Sampling
  /// The seed of the first output, where tokens are drawn at random.
  var seed: UInt64?
  var stop: [String]
  /// Penalties and biases.
  var adjustments: LogitAdjustments
  /// Outputs of a prompt.
  var count: Int
  var streams: Bool
  /// Whether a stream ends with the number of tokens.
  var includesUsage: Bool
  /// How many of the most probable tokens are told in each place; `nil` where no probabilities are told.
  var topProbabilities: Int?
  /// What outputs have to be.
  var format = ResponseFormat.text

  /// Texts that end an output, at most.
  static let stopLimit = 16
  /// Outputs of a prompt, at most.
  static let countLimit = 16
  /// Tokens with a bias, at most.
  static let biasLimit = 1024

  init(_ fields: inout RequestFields) throws {
    model = try fields.text("model")
    let (old, new) = (
      try fields.integer("max_tokens", in: 1...1_000_000),
      try fields.integer("max_completion_tokens", in: 1...1_000_000)
    )
    if let old, let new, old != new {
      throw fields.fault(
        "max_tokens", expected: "the same as max_completion_tokens", found: "\(old) and \(new)")
    }
    maxTokens = new ?? old
    let temperature = try fields.number("temperature", in: 0...2)
    let topP = try fields.number("top_p", in: 0...1)
    // llama.cpp and vLLM have these two as well; 0 and -1 turn the first off.
    let topK = try fields.integer("top_k", in: -1...1_000_000)
    let minP = try fields.number("min_p", in: 0...1)
    // Larger numbers are not whole ones in every reader of JSON.
    let seed = try fields.integer("seed", in: -(1 << 53)...(1 << 53))
    if let temperature, temperature > 0, topP != 0 {
      let start = seed.map { UInt64(bitPattern: Int64($0)) } ?? UInt64(UInt32.random(in: 0...UInt32.max))
      self.seed = start
      sampling = .random(
        RandomSampling(
          temperature: Float(temperature), topK: topK.flatMap { $0 > 0 ? $0 : nil },
          topP: topP.flatMap { $0 < 1 ? Float($0) : nil }, minP: minP.flatMap { $0 > 0 ? Float($0) : nil },
          seed: start))
    } else {
      sampling = .greedy
    }
    stop = try Self.stop(&fields)
    adjustments = LogitAdjustments(
      frequencyPenalty: Float(try fields.number("frequency_penalty", in: -2...2) ?? 0),
      presencePenalty: Float(try fields.number("presence_penalty", in: -2...2) ?? 0),
      bias: try Self.bias(&fields))
    count = try fields.integer("n", in: 1...Self.countLimit) ?? 1
    streams = try fields.boolean("stream") ?? false
    includesUsage = false
    if var options = try fields.object("stream_options") {
      includesUsage = try options.boolean("include_usage") ?? false
      // Obfuscation pads chunks against listeners on the wire; there is none here.
      try options.allow("include_obfuscation", only: [.boolean(false)], because: "chunks are not padded")
      try options.refuseOthers()
      guard streams else {
        throw fields.fault("stream_options", expected: "no such field without stream", found: "one")
      }
    }
    try Self.refuseUnsupported(&fields)
  }

  private static func stop(_ fields: inout RequestFields) throws -> [String] {
    let texts: [String]
    switch fields.value("stop") {
    case nil: texts = []
    case .text(let text): texts = [text]
    case .array(let values):
      texts = try values.map { value in
        guard case .text(let text) = value else {
          throw fields.fault("stop", expected: "texts", found: value.kind)
        }
        return text
      }
    case .some(let value):
      throw fields.fault("stop", expected: "a text or an array of texts", found: value.kind)
    }
    guard texts.count <= stopLimit else {
      throw fields.fault("stop", expected: "at most \(stopLimit) texts", found: "\(texts.count)")
    }
    guard texts.allSatisfy({ !$0.isEmpty && $0.utf8.count <= 1024 }) else {
      throw fields.fault("stop", expected: "texts of 1 to 1024 bytes", found: "another")
    }
    return texts
  }

  /// Numbers by token; -100 forbids one, as OpenAI has it.
  private static func bias(_ fields: inout RequestFields) throws -> [Int: Float] {
    guard let value = fields.value("logit_bias") else { return [:] }
    guard case .object(let entries) = value, entries.count <= biasLimit else {
      throw fields.fault(
        "logit_bias", expected: "an object of at most \(biasLimit) tokens and numbers", found: value.kind)
    }
    var bias: [Int: Float] = [:]
    for (name, value) in entries {
      guard let token = Int(name), token >= 0, case .number(let number) = value,
        (-100...100).contains(number)
      else {
        throw fields.fault(
          "logit_bias", expected: "numbers in -100...100 by the number of a token",
          found: "\(name.prefix(40))")
      }
      bias[token] = number == -100 ? -.infinity : Float(number)
    }
    return bias
  }

  private static func refuseUnsupported(_ fields: inout RequestFields) throws {
    try fields.allow(
      "service_tier", only: [.text("auto"), .text("default")], because: "there is one tier only")
    try fields.allow("store", only: [.boolean(false)], because: "nothing is stored")
    fields.ignore("user", "metadata", "prompt_cache_key", "safety_identifier")
  }

  /// How the output number `index` of a prompt is decoded. The first is that of a request for one.
  ///
  /// - Parameters:
  ///   - usual: Tokens to generate where the request does not say.
  ///   - context: Tokens that prompt and output may have together; `nil` for the model's.
  func options(_ index: Int, usual: Int, context: Int?) -> GenerationOptions {
    var sampling = sampling
    if case .random(var random) = sampling {
      random.seed &+= UInt64(index)
      sampling = .random(random)
    }
    var options = GenerationOptions(
      maxTokens: maxTokens ?? usual, sampling: sampling, stopStrings: stop, context: context)
    options.adjustments = adjustments
    options.topProbabilities = topProbabilities
    return options
  }
}
