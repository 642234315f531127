import Transformers

/// How text is generated.
public struct GenerationOptions: Sendable {
  /// The most tokens to generate, at least 1.
  public var maxTokens: Int
  /// How each token is chosen from the logits.
  public var sampling: Sampling
  /// Texts that end the output when they appear in it. They are not part of the output. None may be empty.
  public var stopStrings: [String]
  /// Tokens that prompt and output may have together, or `nil` for as many as the model can.
  public var context: Int?
  /// Which prompts may leave the layers early, or keep drafts that change the output; all others are decoded at full
  /// depth. `nil` for all.
  public var applicability: ApplicabilityGuard?
  /// The layer after which all tokens of the prompt but the last 32 stop, in ``LanguageModel/promptDepths``; their keys
  /// and values in the layers above are projected from the state there. `nil` for a prompt that passes all layers. It
  /// is for decoders alone, and changes the output.
  public var promptDepth: Int?
  /// A file of keys and values that prompts go on from, where they begin as its own does; `nil` for none. It changes no
  /// output. Encoder–decoders, beams and a ``promptDepth`` do not go with it.
  public var promptCache: PromptCache?
  /// What brings an output back to full depth that begins to repeat itself, where tokens leave early, drafts change the
  /// output or tokens of the prompt stop after a layer; `nil` for nothing. Tokens that may be taken back are held until
  /// they cannot.
  public var tripwire: RepetitionTripwire?
  /// Where the output ends at the latest, at the end of a sentence; `nil` for wherever the model ends it.
  ///
  /// A number of sentences ends the output before the next one. A number of words is a budget: the output ends with the
  /// sentence that reaches it, or before that sentence where it would go too far past it. The first sentence is never
  /// cut. Where ``maxTokens`` or the context end the output within a later sentence, that one is left out.
  public var length: SummaryLength?
  /// Whether the probability of every token is kept, which takes a sum over the whole vocabulary for each.
  public var recordsProbabilities = false
  /// No run of so many tokens may come twice in the output; `nil` for no such rule. End tokens are free.
  public var noRepeatNgram: Int?
  /// What is done to logits before a token is chosen.
  public var adjustments = LogitAdjustments()
  /// How many of the most probable tokens are kept for each token of the output; `nil` for none. It implies
  /// ``recordsProbabilities``.
  public var topProbabilities: Int?
  /// Whether the output ends with its first line.
  var endsWithLine = false
  /// Whether an answer has to be a span of its document, or the refusal: sessions for a task on a document see to it.
  /// `nil` for what is usual for the model, see ``PromptStyle/isExtractive``.
  public var isExtractive: Bool?
  /// Tokens that the output begins with, whatever the model would begin with; none for no such rule. It is none, too,
  /// where a bias rules one of them out.
  public var opening: [TokenID] = []
  /// Tokens that the output may not begin with, in this order; none for no such rule.
  public var forbiddenOpening: [TokenID] = []
  /// What decides whether the output is a refusal; `nil` for the model alone.
  var answerability: AnswerabilityRule?
  /// How long the output is at least; `nil` for as long as the model makes it.
  public var leastLength: SentenceFloor?
  /// What the output is restricted to; `nil` for no restriction. ``LanguageModel/spans(of:)`` makes it.
  public var spans: DocumentSpans?
  /// What the output has to be, such as JSON; `nil` for anything. ``LanguageModel/grammar(jsonSchema:)`` makes it. It
  /// does not go together with what ends outputs elsewhere or forbids tokens.
  public var grammar: OutputGrammar?

  /// Numbers that ``topProbabilities`` may be.
  public static let topProbabilityCounts = 0...100
  /// Lengths that ``noRepeatNgram`` may have.
  public static let ngramLengths = 1...100

  /// Greedy decoding of at most 256 tokens, unless told otherwise.
  public init(
    maxTokens: Int = 256, sampling: Sampling = .greedy, stopStrings: [String] = [], context: Int? = nil,
    length: SummaryLength? = nil, noRepeatNgram: Int? = nil,
    isExtractive: Bool? = nil
  ) {
    self.maxTokens = maxTokens
    self.sampling = sampling
    self.stopStrings = stopStrings
    self.context = context
    self.length = length
    self.noRepeatNgram = noRepeatNgram
    self.isExtractive = isExtractive
  }

  /// The same without what makes an output differ from that of full depth: no guard, no tripwire, and a prompt that
  /// passes all layers.
  public var atFullDepth: GenerationOptions {
    var plain = self
    (plain.applicability, plain.tripwire, plain.promptDepth) = (nil, nil, nil)
    return plain
  }

  /// The context these options ask for on a model whose own is `contextLength`.
  ///
  /// - Throws: ``GenerationError/option(field:expected:found:)`` for any option out of its range.
  public func validatedContext(contextLength: Int) throws(GenerationError) -> Int {
    guard maxTokens >= 1 else {
      throw .option(field: "max-tokens", expected: "at least 1", found: "\(maxTokens)")
    }
    guard !stopStrings.contains("") else {
      throw .option(field: "stop", expected: "a text that is not empty", found: "an empty one")
    }
    try sampling.validate()
    try length?.validate()
    if let noRepeatNgram, !Self.ngramLengths.contains(noRepeatNgram) {
      throw .option(field: "no-repeat-ngram", expected: "in \(Self.ngramLengths)", found: "\(noRepeatNgram)")
    }
    try adjustments.validate(vocabularySize: nil)
    if grammar != nil { try validateBesideGrammar() }
    if let topProbabilities, !Self.topProbabilityCounts.contains(topProbabilities) {
      throw .option(
        field: "logprobs", expected: "in \(Self.topProbabilityCounts)", found: "\(topProbabilities)")
    }
    let context = context ?? contextLength
    guard (2...max(2, contextLength)).contains(context) else {
      throw .option(
        field: "context", expected: "in 2...\(contextLength), the model's own context", found: "\(context)")
    }
    return context
  }

  /// An output that has to be complete ends where it is.
  private func validateBesideGrammar() throws(GenerationError) {
    for (field, isGiven) in [
      ("stop", !stopStrings.isEmpty), ("no-repeat-ngram", noRepeatNgram != nil), ("length", length != nil),
      ("extractive", isExtractive == true || spans != nil),
      ("opening", !opening.isEmpty || !forbiddenOpening.isEmpty),
      ("least length", leastLength != nil),
      ("logit-bias", adjustments.bias.values.contains(-.infinity)),
    ] where isGiven {
      throw .option(field: field, expected: "left out where outputs are JSON", found: "given")
    }
  }
}

/// How a token is chosen from the logits.
public enum Sampling: Sendable, Equatable {
  /// The token with the largest logit; of equal ones, that with the lowest number.
  case greedy
  /// A draw from the softmax of the logits, cut by the given filters.
  case random(RandomSampling)

  func validate() throws(GenerationError) {
    guard case .random(let random) = self else { return }
    guard random.temperature > 0, random.temperature.isFinite else {
      throw .option(field: "temperature", expected: "a number above 0", found: "\(random.temperature)")
    }
    if let topK = random.topK, topK < 1 {
      throw .option(field: "top-k", expected: "at least 1", found: "\(topK)")
    }
    if let topP = random.topP, !(topP > 0 && topP <= 1) {
      throw .option(field: "top-p", expected: "above 0 and at most 1", found: "\(topP)")
    }
    if let minP = random.minP, !(minP >= 0 && minP <= 1) {
      throw .option(field: "min-p", expected: "in 0...1", found: "\(minP)")
    }
  }
}

/// The parameters of random sampling. The filters apply in the order of the properties.
public struct RandomSampling: Sendable, Equatable {
  /// Logits are divided by it before anything else. Above 0.
  public var temperature: Float
  /// Keeps the tokens with the `topK` largest logits; of equal ones, those with the lower numbers.
  public var topK: Int?
  /// Keeps the fewest tokens, most probable first, whose probabilities reach this sum (Holtzman et al., 2020).
  public var topP: Float?
  /// Keeps the tokens at least this times as probable as the most probable one.
  public var minP: Float?
  /// Where the generator starts. The same seed gives the same draws on every platform.
  public var seed: UInt64

  /// Sets how tokens are drawn; without filters, from all tokens at temperature 1.
  public init(
    temperature: Float = 1, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil, seed: UInt64
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.seed = seed
  }
}
