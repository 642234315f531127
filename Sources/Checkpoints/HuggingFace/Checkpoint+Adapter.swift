import FileFormats
import TensorKernels

extension Checkpoint {
  /// The same checkpoint with an adapter's updates added to its matrices, which are computed when they are read.
  ///
  /// Matrices that the adapter changes are given as F32, whatever the file holds them in.
  ///
  /// - Throws: ``CheckpointError`` where the adapter names what the model does not have, or matrices of another shape.
  public func merging(_ adapter: LowRankAdapter) throws(CheckpointError) -> Checkpoint {
    let names = HuggingFaceNames(configuration.family)
    var inner: [String: MappedTensor] = [:]
    var outer: [String: MappedTensor] = [:]
    var scales: [String: Float] = [:]
    for (module, update) in adapter.updates {
      let name = names.canonical(module + ".weight")
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
      let isRotated = name.hasSuffix(".attn_q.weight") || name.hasSuffix(".attn_k.weight")
      merged[name] = MappedTensor(
        MergedMatrix(
          base: base, inner: first, outer: update, scale: scale,
          // Such files hold the two halves of each head's rotated pairs in turns.
          interleavedHeadSize: kind == .gguf && configuration.rotaryLayout == .interleaved && isRotated
            ? configuration.headSize : nil))
    }
    var notes: [String] = []
    if let base = adapter.baseName, !Self.mayBe(base, configuration.name) {
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
  let base: MappedTensor
  /// (rank, columns)
  let inner: MappedTensor
  /// (rows, rank)
  let outer: MappedTensor
  private let scale: Float
  /// The size of heads whose rows are in turns of their halves; `nil` where rows are in the adapter's order.
  private let interleavedHeadSize: Int?

  init(
    base: MappedTensor, inner: MappedTensor, outer: MappedTensor, scale: Float, interleavedHeadSize: Int?
  ) {
    self.base = base
    self.inner = inner
    self.outer = outer
    self.scale = scale
    self.interleavedHeadSize = interleavedHeadSize
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
    guard let size = interleavedHeadSize else { return row }
    let (head, place) = (row / size, row % size)
    return head * size + place % 2 * (size / 2) + place / 2
  }
}
