import FileFormats
import TensorKernels

extension Checkpoint {
  /// The same checkpoint with an adapter's updates added to its matrices, which are computed when they are read.
  ///
  /// Matrices that the adapter changes are given as F32, whatever the file holds them in.
  ///
  /// - Throws: ``CheckpointError`` where the adapter names what the model does not have, or matrices of another shape.
  public func merging(_ adapter: LowRankAdapter) throws(CheckpointError) -> Checkpoint {
    if kind == .gguf, let stated = adapter.architecture, let own = metadata["general.architecture"]?.string,
      stated != own
    {
      throw .unsupported(
        adapter.path, "metadata key general.architecture",
        expected: "\"\(own)\", as \(configuration.name) has it",
        found: "\"\(CheckpointError.printable(stated))\"")
    }
    let names = HuggingFaceNames(configuration.family)
    var inner: [String: MappedTensor] = [:]
    var outer: [String: MappedTensor] = [:]
    var scales: [String: Float] = [:]
    for (module, update) in adapter.updates {
      let name = adapter.kind == .gguf ? module : names.canonical(module + ".weight")
      (inner[name], outer[name], scales[name]) = (update.inner, update.outer, update.scale)
    }
    if configuration.encoder == nil {
      // Files of some families have Q, K and V below each other, where this checkpoint has three matrices.
      try TensorLayout.cutFused(&outer, configuration)
    }
    var merged: [String: MappedTensor] = [:]
    for (name, update) in outer.sorted(by: { $0.key < $1.key }) {
      let origin = inner[name] == nil ? Self.fusedName(of: name) : name
      guard let first = inner[origin], let scale = scales[origin] else { continue }
      guard let base = tensorIfAny(name) else {
        throw CheckpointError(
          kind: .tensor, file: update.path, field: "tensor \(CheckpointError.printable(first.name))",
          expected: "only matrices that \(configuration.name) has", found: "one that it lacks")
      }
      guard base.shape == [update.shape[0], first.shape[1]] else {
        throw CheckpointError(
          kind: .tensor, file: update.path, field: "tensor \(CheckpointError.printable(first.name))",
          expected: "an update of \(MappedTensor.describe(base.shape)), as \(configuration.name) has it",
          found: MappedTensor.describe([update.shape[0], first.shape[1]]))
      }
      let isRotated =
        (name.hasSuffix(".attn_q.weight") || name.hasSuffix(".attn_k.weight"))
        && configuration.family.description.interleavesInGGUF
      let order: MergedMatrix.RowOrder =
        switch (adapter.kind, kind) {
        case (.huggingFace, .gguf) where isRotated: .inTurns(headSize: configuration.headSize)
        case (.gguf, .huggingFace) where isRotated: .inHalves(headSize: configuration.headSize)
        default: .same
        }
      merged[name] = MappedTensor(
        MergedMatrix(
          base: base, inner: first, outer: update, scale: scale, order: order))
    }
    var notes: [String] = []
    // The name inside a file may be that of what it was made of; people rename the files by the model.
    if let base = adapter.baseName, !Self.mayBe(base, configuration.name), !Self.mayBe(base, path) {
      notes.append(
        "\(adapter.path) says that it was trained on \(CheckpointError.printable(base)), and the model is called "
          + CheckpointError.printable(configuration.name))
    }
    return replacing(merged, notes: notes)
  }

  private static func fusedName(of name: String) -> String {
    let parts = name.split(separator: ".", maxSplits: 2).map(String.init)
    guard parts.count == 3 else { return name }
    let fused = parts[2] == "ffn_gate.weight" ? "ffn_up.weight" : "attn_qkv.weight"
    return "\(parts[0]).\(parts[1]).\(fused)"
  }

  /// Whether two names may be of one model: letters and digits of one are in the other.
  private static func mayBe(_ base: String, _ name: String) -> Bool {
    func core(_ text: String) -> String {
      String(text.split(separator: "/").last ?? "").lowercased().filter { $0.isLetter || $0.isNumber }
    }
    let (base, name) = (core(base), core(name))
    return base.contains(name) || name.contains(base)
  }
}

/// A matrix with what an adapter adds to it.
final class MergedMatrix: Sendable {
  /// Where the adapter has the matrix's rows. GGUF files of some families hold the two halves of each head in turns.
  enum RowOrder: Sendable {
    case same
    /// The matrix has them in turns, and the adapter in halves.
    case inTurns(headSize: Int)
    /// The other way round.
    case inHalves(headSize: Int)
  }

  let base: MappedTensor
  /// (rank, columns)
  let inner: MappedTensor
  /// (rows, rank)
  let outer: MappedTensor
  private let scale: Float
  private let order: RowOrder

  init(
    base: MappedTensor, inner: MappedTensor, outer: MappedTensor, scale: Float, order: RowOrder
  ) {
    self.base = base
    self.inner = inner
    self.outer = outer
    self.scale = scale
    self.order = order
  }

  /// The matrix, row after row.
  ///
  /// - Complexity: O(rows · columns · rank)
  func makeFloats() -> [Float] {
    var values = base.makeFloats()
    values.withUnsafeMutableBufferPointer { add(to: $0) }
    return values
  }

  private func add(to matrix: UnsafeMutableBufferPointer<Float>) {
    let (rank, columns) = (inner.shape[0], inner.shape[1])
    let (a, b) = (inner.makeFloats(), outer.makeFloats())
    a.withUnsafeBufferPointer { a in
      for row in 0..<outer.shape[0] {
        let source = place(of: row) * rank
        let target = UnsafeMutableBufferPointer(rebasing: matrix[row * columns..<(row + 1) * columns])
        for k in 0..<rank {
          let factor = scale * b[source + k]
          if factor == 0 { continue }
          let values = UnsafeBufferPointer(rebasing: a[k * columns..<(k + 1) * columns])
          for column in 0..<columns { target[column] += factor * values[column] }
        }
      }
    }
  }

  /// The adapter's row for a row of the matrix.
  private func place(of row: Int) -> Int {
    switch order {
    case .same: return row
    case .inTurns(let size):
      let (head, place) = (row / size, row % size)
      return head * size + place % 2 * (size / 2) + place / 2
    case .inHalves(let size):
      let (head, place) = (row / size, row % size)
      return head * size + place % (size / 2) * 2 + place / (size / 2)
    }
  }
}
