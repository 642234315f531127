import Checkpoints
import FileFormats

/// A request that a decoder cannot carry out.
public enum DecoderError: Error, Sendable, Equatable, CustomStringConvertible {
  /// More tokens than the context, or than the cache was made for.
  case contextExceeded(needed: Int, capacity: Int)
  /// A token outside 0..<vocabularySize.
  case tokenOutOfRange(token: Int, vocabularySize: Int)
  /// Layers outside 0..<layerCount.
  case layersOutOfRange(Range<Int>, layerCount: Int)
  /// A row stands past the end of what its cache has in that layer.
  case gapInCache(layer: Int, position: Int, filled: Int)
  /// More rows than the buffer holds, or fewer than are asked for.
  case rowCount(expected: Int, found: Int)
  /// An encoder–decoder was asked for a token before its encoder had read a text.
  case noSource
  /// A text for the encoder that has no tokens, or for a decoder without an encoder.
  case unusableSource(String)
  /// A checkpoint that does not hold what the decoder needs.
  case checkpoint(CheckpointError)
  /// What the operating system did not give, or a setting that this machine cannot follow.
  case resources(String)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .contextExceeded(let needed, let capacity):
      "the text needs \(needed) tokens, but the context holds \(capacity)"
    case .tokenOutOfRange(let token, let size):
      "token \(token) is not in the vocabulary (0 to \(size - 1))"
    case .layersOutOfRange(let range, let count):
      "layers \(range) were asked for, but the model has 0..<\(count)"
    case .gapInCache(let layer, let position, let filled):
      "position \(position) cannot be computed in layer \(layer): its cache ends at \(filled)"
    case .rowCount(let expected, let found):
      "\(expected) rows were expected, found \(found)"
    case .noSource:
      "an encoder-decoder needs a text for its encoder before it can say anything"
    case .unusableSource(let why): why
    case .checkpoint(let error): error.description
    case .resources(let what): what
    }
  }
}
