import Generation
import Transformers

/// What exits at many layers would have done with the tokens of a full-depth run: the confidence by every measure, and
/// whether the exit's token is that of the full model.
///
/// The texts are those that the full model wrote, so one pass serves every set of exits and every threshold. A token
/// that leaves early changes later tokens; the traces do not show that.
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

  /// Decodes documents at full depth and adds what comes out. Documents that do not fit lose their end.
  ///
  /// - Parameters:
  ///   - documents: What is asked, and of which text.
  ///   - model: The model that the traces are of.
  ///   - maxTokens: The most tokens of an output; `nil` for the most that is usual for one of these tasks.
  ///   - shouldStop: Asked before each token.
  ///   - progress: Told how many documents are done.
  /// - Returns: Whether all were added; `false` when `shouldStop` said so before.
  /// - Throws: `DocumentBatchError` naming the document at fault.
  public mutating func add(
    _ documents: [DocumentBatch.Item], of model: LanguageModel, maxTokens: Int? = nil,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }, progress: (Int) -> Void = { _ in }
  ) throws -> Bool {
    let usual = documents.map(\.task.usualMaxTokens).max() ?? 1
    let batch = DocumentBatch(
      model: model, options: GenerationOptions(maxTokens: maxTokens ?? usual), rule: .truncate,
      shouldStop: shouldStop)
    return try batch.run(documents) { event in
      guard case .finished(let item, let generation) = event else { return }
      try add(generation)
      progress(item + 1)
    }
  }

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
