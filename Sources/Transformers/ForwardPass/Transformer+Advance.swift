import CTensorKernels
import Checkpoints
import Foundation
import TensorKernels

extension Transformer {
  /// Runs layers over the rows, in slices of as many as the workspace holds.
  public func advance(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>
  ) throws(DecoderError) {
    try forEachSlice(states, rows: rows, layers: range) { pass in
      for layer in range {
        switch computePath {
        case .quantized, .fourBit: pass.layer(layer)
        case .float32, .sixteenBit: pass.layerInFloat32(layer)
        }
      }
      pass.writeBack(states)
    }
  }

  /// Writes the rows' keys and values of layers, and nothing else of these.
  public func propagate(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>
  ) throws(DecoderError) {
    try forEachSlice(states, rows: rows, layers: range) { pass in
      for layer in range { pass.keysAndValues(layer) }
    }
  }

  /// Runs `body` on at most ``Workspace/maximumRows`` rows at a time, then notes their positions as filled. A later
  /// slice may read what an earlier one wrote, in every layer.
  private func forEachSlice(
    _ states: HiddenStates, rows: [BatchRow], layers range: Range<Int>, _ body: (ForwardPass) -> Void
  ) throws(DecoderError) {
    try check(states, rows: rows, layers: range)
    workspace.exclusively {
      for start in stride(from: 0, to: rows.count, by: Workspace.maximumRows) {
        let slice = start..<min(start + Workspace.maximumRows, rows.count)
        workspace.reserve(slice.count)
        var places: [RowPlace] = []
        places.reserveCapacity(slice.count)
        for row in rows[slice] {
          guard let memory = row.cache.memory else { continue }
          var place = RowPlace(memory: memory, layout: row.cache.layout, position: row.position)
          if let source = row.cache.source {
            place.sourceMemory = source.memory
            place.sourceLayout = source.layout
            place.sourceCount = source.capacity
          }
          place.room = row.cache.capacity
          places.append(place)
        }
        places.withUnsafeBufferPointer { places in
          let pass = ForwardPass(model: self, workspace: workspace, places: places, firstRow: start)
          pass.begin(states)
          body(pass)
        }
        for row in rows[slice] {
          for layer in range { row.cache.filled[layer] = row.position + 1 }
        }
      }
    }
  }

  /// Final norm and unembedding of rows.
  public func logits(
    of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float]
  ) throws(DecoderError) {
    guard range.lowerBound >= 0, range.upperBound <= states.count,
      states.hiddenSize == configuration.hiddenSize
    else {
      throw .rowCount(expected: range.upperBound, found: states.count)
    }
    let vocabulary = configuration.vocabularySize
    if logits.count != range.count * vocabulary {
      logits = [Float](repeating: 0, count: range.count * vocabulary)
    }
    logits.withUnsafeMutableBufferPointer { logits in
      guard let output = logits.baseAddress else { return }
      workspace.exclusively {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: Workspace.maximumHeadRows) {
          let rows = start..<min(start + Workspace.maximumHeadRows, range.upperBound)
          workspace.reserve(rows.count)
          let pass = ForwardPass(
            model: self, workspace: workspace, places: UnsafeBufferPointer(start: nil, count: 0),
            firstRow: start)
          pass.logits(states, count: rows.count, into: output + (start - range.lowerBound) * vocabulary)
        }
      }
    }
  }
}
