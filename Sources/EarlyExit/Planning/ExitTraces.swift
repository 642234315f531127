import Generation
import Transformers

/// What exits at many layers would have said of the tokens of a full-depth run: the confidence of every measure, and
/// whether the exit's token is the full model's.
///
/// The texts are those that the full model wrote, so one pass tells of every exit set and threshold. What a token that
/// left would have changed in later ones is not seen.
public struct ExitTraces {
  /// An exit's word on one token.
  struct Look: Sendable {
    var agrees: Bool
    /// In [0, 1), by measure.
    var softmax: Float
    var saturation: Float
    var classifier: Float
  }

  /// The exits' layers, ascending.
  public let layers: [Int]
  /// Layers of the model.
  public let layerCount: Int
  /// By exit layer, a look for every token.
  private(set) var looks: [[Look]]
  /// Where each text's tokens begin, and the end.
  private(set) var starts: [Int] = [0]

  private let decoder: any DecoderModel
  private let heads: ExitHeads
  private let classifier: ClassifierConfidence
  private let states: HiddenStates

  /// - Throws: ``EarlyExitError`` for layers that the model lacks.
  public init(model: LanguageModel, layers: [Int], heads: ExitHeads) throws(EarlyExitError) {
    let policy = try ThresholdPolicy(threshold: 0, layers: layers)
    let strategy = ExitStrategy(policy: policy, measure: SaturationConfidence(), heads: heads)
    self.layers = try strategy.validatedLayers(for: model.decoder)
    self.heads = heads
    decoder = model.decoder
    layerCount = decoder.configuration.layerCount
    classifier = ClassifierConfidence(heads.classifiers)
    states = HiddenStates(
      hiddenSize: decoder.configuration.hiddenSize, capacity: DecodingBuffers.prefillChunk)
    looks = Array(repeating: [], count: layers.count)
  }

  /// Tokens in the traces, the first of each output left out.
  public var tokenCount: Int { starts.last ?? 0 }

  /// Adds a prompt with the full-depth output that followed it. The first output token, which the prompt's pass gives,
  /// is left out, as no exit decides on it.
  public mutating func add(_ generation: Generation) throws {
    let prompt = generation.promptTokenIDs
    let size = states.hiddenSize
    let prepared = try heads.prepared(for: decoder)
    let needed = Set(layers + layers.map { $0 - 1 }).filter { $0 > 0 }.sorted()
    var texts = Dictionary(uniqueKeysWithValues: needed.map { ($0, [Float]()) })
    try TeacherForcing(decoder: decoder, states: states).run(generation, layers: needed) { layer, rows in
      texts[layer, default: []] += rows
    }
    let tokens = generation.tokenIDs.dropFirst()
    guard !tokens.isEmpty else { return }
    for (index, layer) in layers.enumerated() {
      let all = texts[layer, default: []].dropFirst(size)
      let before = texts[layer - 1, default: []].dropFirst(size)
      let choices = try StateSample.choices(
        of: Array(all), prompt: prompt, decoder: decoder, layer: layer, heads: prepared)
      for (row, (token, choice)) in zip(tokens, choices).enumerated() {
        var reading = ConfidenceReading(layer: layer)
        reading.hiddenState = Array(all.dropFirst(row * size).prefix(size))
        reading.previousHiddenState = Array(before.dropFirst(row * size).prefix(size))
        looks[index].append(
          Look(
            agrees: choice.token == token, softmax: Float(choice.margin),
            saturation: Float(min(max(SaturationConfidence().confidence(reading), 0), 1)),
            classifier: Float(classifier.confidence(reading, margin: choice.margin))))
      }
    }
    starts.append(tokenCount + tokens.count)
  }
}

/// Runs texts through the layers, several tokens at a time.
struct TeacherForcing {
  let decoder: any DecoderModel
  let states: HiddenStates

  /// Hands over the hidden states, (rows, hiddenSize), that the output's tokens were chosen from. They are those of the
  /// prompt's last token and of all output tokens but the last. They come part by part, and each part layer by layer.
  func run(_ generation: Generation, layers: [Int], _ body: (_ layer: Int, [Float]) throws -> Void) throws {
    // After an encoder, the decoder reads its own first token only.
    let start = decoder.configuration.encoder.map { [$0.startToken] }
    let prompt = start ?? generation.promptTokenIDs
    let tokens = prompt + generation.tokenIDs.dropLast()
    guard let firstOutput = prompt.indices.last, !generation.tokenIDs.isEmpty else { return }
    let cache = try decoder.makeCache(capacity: tokens.count)
    try decoder.sourceEncoder?.encode(generation.promptTokenIDs, into: cache)
    for start in stride(from: 0, to: tokens.count, by: states.capacity) {
      let chunk = start..<min(start + states.capacity, tokens.count)
      try decoder.embed(Array(tokens[chunk]), into: states)
      let rows = chunk.map { BatchRow(cache: cache, position: $0) }
      var done = 0
      for layer in layers {
        try decoder.advance(states, rows: rows, layers: done..<layer)
        done = layer
        let outputs = max(firstOutput, start)..<max(firstOutput, start, chunk.upperBound)
        try body(layer, outputs.flatMap { states[$0 - start] })
      }
      // What follows attends to every layer of what is before.
      try decoder.advance(states, rows: rows, layers: done..<decoder.configuration.layerCount)
    }
  }
}
