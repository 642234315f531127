import Generation
import Transformers

/// A drafter that keeps keys and values of its own for the tokens of a prompt, and can take over those of another
/// prompt that begins alike.
protocol SharingDrafter: Drafter {
  /// What it keeps of the prompt; `nil` for nothing that others could use.
  var kept: (any BeginningCompanion)? { get }
  /// Goes on from what was kept of the first tokens, which are not told to ``Drafter/read(_:positions:)`` again.
  func goOn(from others: [any BeginningCompanion], count: Int)
}

/// What a draft head keeps of a prompt.
struct HeadBeginning: BeginningCompanion {
  /// The head's layer.
  var layer: any DecoderModel
  var cache: KeyValueCache
  /// Rows of the prompt's tokens. Row t is of the state of token t and of token t + 1, which stands in the prompt.
  var rows: Int

  var byteCount: Int { cache.byteCount }

  func replaces(_ other: any BeginningCompanion) -> Bool {
    guard let other = other as? HeadBeginning else { return false }
    return layer === other.layer && rows >= other.rows
  }

  /// Rows of `layer` in what was kept.
  static func rows(of layer: any DecoderModel, in kept: [any BeginningCompanion]) -> Int {
    kept.compactMap { $0 as? HeadBeginning }.filter { $0.layer === layer }.map(\.rows).max() ?? 0
  }
}

/// What a small model keeps of a prompt.
struct DraftBeginning: BeginningCompanion {
  var decoder: any DecoderModel
  var cache: KeyValueCache
  /// Tokens whose keys and values are there.
  var count: Int

  var byteCount: Int { cache.byteCount }

  func replaces(_ other: any BeginningCompanion) -> Bool {
    guard let other = other as? DraftBeginning else { return false }
    return decoder === other.decoder && count >= other.count
  }
}

extension HeadDrafter: SharingDrafter {
  var kept: (any BeginningCompanion)? {
    HeadBeginning(layer: head.layer, cache: cache, rows: max(0, min(cached, prompt.count - 1)))
  }

  func goOn(from others: [any BeginningCompanion], count: Int) {
    let other = others.compactMap { $0 as? HeadBeginning }.first {
      $0.layer === head.layer && $0.rows >= count
    }
    guard let other else { return }
    cached = cache.copyBeginning(of: other.cache, count: count)
  }
}

extension ModelDrafter: SharingDrafter {
  var kept: (any BeginningCompanion)? {
    // Where its own tokens leave early, the deeper layers lag behind.
    exits == nil ? DraftBeginning(decoder: model.decoder, cache: cache, count: cached.count) : nil
  }

  /// Whatever of it is there: what is not, it reads itself.
  func goOn(from others: [any BeginningCompanion], count: Int) {
    let other = others.compactMap { $0 as? DraftBeginning }.first { $0.decoder === model.decoder }
    guard exits == nil, let other else { return }
    take(cache.copyBeginning(of: other.cache, count: min(count, other.count, prompt.count)))
  }
}
