import Synchronization
import Transformers

/// Exit heads and classifiers that were fitted on a frozen model.
public struct ExitHeads: Sendable {
  /// One layer's linear map from the hidden state to the final hidden state, both divided by their root mean square.
  public struct LayerMap: Sendable, Equatable {
    /// (hiddenSize in, hiddenSize out): the numbers of one input lie together.
    public let weights: [Float]
    /// Numbers of a hidden state.
    public let hiddenSize: Int

    /// - Parameters:
    ///   - weights: (hiddenSize, hiddenSize), row i being what input i adds to the outputs.
    ///   - hiddenSize: Numbers of a hidden state.
    public init(weights: [Float], hiddenSize: Int) throws(EarlyExitError) {
      guard hiddenSize > 0, weights.count == hiddenSize * hiddenSize else {
        throw .exitHeads(
          "a map of \(weights.count) numbers cannot be one of \(hiddenSize) by \(hiddenSize)")
      }
      self.weights = weights
      self.hiddenSize = hiddenSize
    }

    /// (hiddenSize out, hiddenSize in), as products want it.
    var transposed: [Float] {
      weights.withUnsafeBufferPointer { weights in
        [Float](unsafeUninitializedCapacity: weights.count) { result, count in
          for input in 0..<hiddenSize {
            for output in 0..<hiddenSize {
              result[output * hiddenSize + input] = weights[input * hiddenSize + output]
            }
          }
          count = weights.count
        }
      }
    }
  }

  /// By exit layer.
  public let maps: [Int: LayerMap]
  /// By exit layer.
  public let classifiers: [Int: ClassifierConfidence.Weights]
  /// The tokens that reduced heads choose from, beside those of the prompt; empty where exits use the whole vocabulary.
  ///
  /// With a shortlist, a token that leaves is the best of the shortlist and of the prompt's own tokens. An exit at the
  /// last layer makes sense then: all layers are run, but only the shortlist's part of the unembedding is read.
  public let shortlist: [TokenID]
  private let preparation = Preparation()

  /// Puts heads together. Whether they fit a model shows when they are prepared for one.
  ///
  /// - Parameters:
  ///   - maps: By exit layer; layers without one use the hidden state as it is.
  ///   - classifiers: By exit layer; layers without one have confidence 0.
  ///   - shortlist: Tokens that exits choose from beside the prompt's; empty for the whole vocabulary.
  public init(
    maps: [Int: LayerMap] = [:], classifiers: [Int: ClassifierConfidence.Weights] = [:],
    shortlist: [TokenID] = []
  ) {
    self.maps = maps
    self.classifiers = classifiers
    self.shortlist = shortlist
  }

  /// The exit layers that have a map or a classifier, ascending.
  public var layers: [Int] { Set(maps.keys).union(classifiers.keys).sorted() }

  /// - Throws: ``EarlyExitError/exitHeads(_:)`` where a head does not fit a model of this shape.
  package func check(_ decoder: any DecoderModel) throws(EarlyExitError) {
    let configuration = decoder.configuration
    let (hiddenSize, layerCount) = (configuration.hiddenSize, configuration.layerCount)
    for layer in layers {
      guard (1..<max(layerCount, 1)).contains(layer) || (layer == layerCount && !shortlist.isEmpty) else {
        throw .exitHeads("there is an exit head for layer \(layer), but the model has \(layerCount) layers")
      }
      let found = maps[layer]?.hiddenSize ?? classifiers[layer]?.weights.count ?? 0
      guard found == hiddenSize else {
        throw .exitHeads(
          "the exit head of layer \(layer) is for hidden states of \(found) numbers; the model's have \(hiddenSize)"
        )
      }
    }
    let size = configuration.vocabularySize
    if let token = shortlist.first(where: { !(0..<size).contains($0) }) {
      throw .exitHeads("the shortlist has the token \(token), but the model's vocabulary has \(size) tokens")
    }
    guard Set(shortlist).count == shortlist.count else {
      throw .exitHeads("the shortlist has a token twice")
    }
  }

  /// The heads as the decoder multiplies with them; made once.
  func prepared(for decoder: any DecoderModel) throws(DecoderError) -> PreparedHeads {
    try preparation.prepared(self, for: decoder)
  }

  /// What was made of the heads for one decoder.
  private final class Preparation: Sendable {
    private let made = Mutex<(decoder: any DecoderModel, heads: PreparedHeads)?>(nil)

    func prepared(_ heads: ExitHeads, for decoder: any DecoderModel) throws(DecoderError) -> PreparedHeads {
      if let found = made.withLock({ $0?.decoder === decoder ? $0?.heads : nil }) { return found }
      let new = try PreparedHeads(heads, decoder: decoder)
      made.withLock { $0 = (decoder, new) }
      return new
    }
  }
}

/// Exit heads packed for a decoder.
struct PreparedHeads: Sendable {
  /// Rows of the unembedding, and the tokens they are of.
  struct Candidates: Sendable {
    var tokens: [TokenID]
    var rows: SideMatrix
  }

  let maps: [Int: SideMatrix]
  /// `nil` where exits use the whole vocabulary.
  let shortlist: Candidates?
  private let isListed: [Bool]

  init(_ heads: ExitHeads, decoder: any DecoderModel) throws(DecoderError) {
    var maps: [Int: SideMatrix] = [:]
    for (layer, map) in heads.maps { maps[layer] = try decoder.makeMap(map.transposed) }
    self.maps = maps
    var isListed = [Bool](repeating: false, count: decoder.configuration.vocabularySize)
    for token in heads.shortlist where isListed.indices.contains(token) { isListed[token] = true }
    self.isListed = isListed
    shortlist =
      heads.shortlist.isEmpty
      ? nil : Candidates(tokens: heads.shortlist, rows: try decoder.makeUnembedding(of: heads.shortlist))
  }

  /// The tokens of a prompt that the shortlist lacks; `nil` when there are none, or no shortlist.
  func additions(of prompt: [TokenID], decoder: any DecoderModel) throws(DecoderError) -> Candidates? {
    guard shortlist != nil else { return nil }
    let tokens = Set(prompt).filter { isListed.indices.contains($0) && !isListed[$0] }.sorted()
    guard !tokens.isEmpty else { return nil }
    return Candidates(tokens: tokens, rows: try decoder.makeUnembedding(of: tokens))
  }
}
