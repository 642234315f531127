import Transformers

/// A token on its way through the layers: where it stands in its sequence, and its state after `layer` layers.
package struct LayeredRow {
  package var place: BatchRow
  package var layer: Int
  /// (hiddenSize)
  package var state: [Float]

  package init(place: BatchRow, layer: Int, state: [Float]) {
    self.place = place
    self.layer = layer
    self.state = state
  }

  /// Tokens of one sequence at the bottom of the layers.
  ///
  /// - Parameter first: Where the first of them stands.
  package static func embedded(
    _ tokens: [TokenID], at first: BatchRow, decoder: any DecoderModel
  ) throws(DecoderError) -> [LayeredRow] {
    let states = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: tokens.count)
    try decoder.embed(tokens, into: states)
    return tokens.indices.map {
      LayeredRow(
        place: BatchRow(cache: first.cache, position: first.position + $0), layer: 0, state: states[$0])
    }
  }
}

/// What the pass of one sequence needs of a model before it can go on, and how it goes on then.
///
/// Passes of several sequences that need the same share it: see ``PassRunner``. Whether they do changes no number.
package struct PassWork {
  enum Kind {
    /// The layers up to `target`.
    case layers(target: Int)
    /// Keys and values of the layers that are left, from the state as it is.
    case propagation
    /// A product with a matrix; `nil` for the final norm and the unembedding.
    case head(SideMatrix?)
  }

  let decoder: any DecoderModel
  let kind: Kind
  /// Of one sequence, ascending in position. An earlier one has passed at least as many layers as a later one: a token
  /// cannot pass a layer that those before it have not.
  var rows: [LayeredRow]
  /// Is given the rows and, after a head, their numbers, row by row; `nil` ends the pass.
  let then: ([LayeredRow], UnsafeBufferPointer<Float>) throws -> PassWork?

  /// The layers that its lowest row has passed.
  var height: Int { rows.last?.layer ?? 0 }

  /// Takes the rows that stand below `target` up to it.
  package static func layers(
    _ decoder: any DecoderModel, _ rows: [LayeredRow], to target: Int,
    then: @escaping ([LayeredRow]) throws -> PassWork?
  ) -> PassWork {
    PassWork(decoder: decoder, kind: .layers(target: target), rows: rows) { rows, _ in try then(rows) }
  }

  /// Writes keys and values of the layers that a row skips: see `DecoderModel.propagate`.
  package static func propagation(
    _ decoder: any DecoderModel, _ row: LayeredRow, then: @escaping () throws -> PassWork?
  ) -> PassWork {
    PassWork(decoder: decoder, kind: .propagation, rows: [row]) { _, _ in try then() }
  }

  /// Products of the rows' states with a matrix that the model made, or their logits, whatever layer they come after.
  package static func head(
    _ decoder: any DecoderModel, _ matrix: SideMatrix?, _ rows: [LayeredRow],
    then: @escaping (UnsafeBufferPointer<Float>) throws -> PassWork?
  ) -> PassWork {
    PassWork(decoder: decoder, kind: .head(matrix), rows: rows) { try then($1) }
  }

  /// Whether both, of the same height, need the same.
  func shares(_ other: PassWork) -> Bool {
    guard decoder === other.decoder, height == other.height else { return false }
    return switch (kind, other.kind) {
    case (.layers, .layers), (.propagation, .propagation), (.head(nil), .head(nil)): true
    case (.head(let a?), .head(let b?)): a.isSame(as: b)
    default: false
    }
  }
}

extension SequenceDecoding {
  /// A pass of the last token through all layers.
  ///
  /// - Parameter take: Is given the token that comes next.
  package func fullDepthPass(
    of decoder: any DecoderModel, _ take: @escaping (TokenStep) throws -> Void
  ) throws -> PassWork? {
    guard let (token, place) = pending else { return nil }
    let rows = try LayeredRow.embedded([token], at: place, decoder: decoder)
    return .layers(decoder, rows, to: decoder.configuration.layerCount) { rows in
      .head(decoder, nil, rows) { logits in
        try take(self.accept(logits))
        return nil
      }
    }
  }
}
