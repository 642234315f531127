import Generation
import Transformers

/// Runs texts that are known to their end through the layers, several tokens at a time.
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
    try run(tokens, from: firstOutput, cache: cache, layers: layers, body)
  }

  /// Hands over the states after each layer of the tokens from `first` on. Layers above the last one asked for are not
  /// run: nothing below attends to them.
  func run(
    _ tokens: [TokenID], from first: Int, cache: KeyValueCache, layers: [Int],
    _ body: (_ layer: Int, [Float]) throws -> Void
  ) throws {
    for start in stride(from: 0, to: tokens.count, by: states.capacity) {
      let chunk = start..<min(start + states.capacity, tokens.count)
      try decoder.embed(Array(tokens[chunk]), into: states)
      let rows = chunk.map { BatchRow(cache: cache, position: $0) }
      let wanted = max(first, start)..<max(first, start, chunk.upperBound)
      var done = 0
      for layer in layers {
        try decoder.advance(states, rows: rows, layers: done..<layer)
        done = layer
        try body(layer, wanted.flatMap { states[$0 - start] })
      }
    }
  }
}

/// Reads the hidden states of texts, to train heads on.
public struct HiddenStateReader {
  /// Layers after which states are read, ascending.
  public let layers: [Int]
  private let forcing: TeacherForcing

  /// Tokens that pass the layers together.
  private static let rowsAtATime = 256

  /// - Parameters:
  ///   - model: A decoder alone: behind an encoder, states depend on a second text.
  ///   - layers: In 1...the model's layer count; `nil` for the last.
  /// - Throws: ``EarlyExitError`` for layers that the model lacks, and for an encoder-decoder.
  public init(_ model: LanguageModel, layers: [Int]? = nil) throws(EarlyExitError) {
    let configuration = model.decoder.configuration
    guard configuration.encoder == nil else {
      throw .option(field: "model", expected: "a decoder alone", found: "an encoder-decoder")
    }
    let last = configuration.layerCount
    self.layers = Set(layers ?? [last]).sorted()
    if let layer = self.layers.first(where: { !(1...last).contains($0) }) {
      throw .option(field: "layers", expected: "in 1...\(last)", found: "\(layer)")
    }
    forcing = TeacherForcing(
      decoder: model.decoder,
      states: HiddenStates(hiddenSize: configuration.hiddenSize, capacity: Self.rowsAtATime))
  }

  /// Numbers in a state.
  public var hiddenSize: Int { forcing.states.hiddenSize }

  /// Hands over the states of all tokens of a text, (rows, hiddenSize). They come part by part, and each part layer by
  /// layer.
  public func read(_ text: [TokenID], _ body: (_ layer: Int, _ rows: [Float]) throws -> Void) throws {
    let cache = try forcing.decoder.makeCache(capacity: text.count)
    try forcing.run(text, from: 0, cache: cache, layers: layers, body)
  }
}
