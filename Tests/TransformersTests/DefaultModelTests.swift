import Checkpoints
import Foundation
import TestSupport
import Testing
import Transformers

/// The default model against PyTorch in single precision on its dequantised weights; `make test` fetches the model.
@Suite(.enabled(if: DefaultModel.path != nil, "the default model has not been fetched"), .serialized)
struct DefaultModelTests {
  struct Reference: Decodable {
    struct Position: Decodable {
      var top10_ids: [Int]
      var top10_logits: [Float]
      var logits_first16: [Float]
      var logsumexp: Double
      var hidden_state_l2_norm_by_layer: [Double]
      var shared_head_argmax_by_layer: [Int]
    }
    struct Case: Decodable {
      var name: String
      var token_ids: [Int]
      var last_position: Position
      var greedy_token_ids: [Int]
      var greedy_logit_margins: [Float]
    }
    var cases: [Case]
  }

  private func reference() throws -> Reference {
    let url = try #require(Bundle.module.url(forResource: "Fixtures/smollm2_logits", withExtension: "json"))
    return try JSONDecoder().decode(Reference.self, from: Data(contentsOf: url))
  }

  private func model(_ compute: ComputePath) throws -> Transformer {
    try Transformer(
      checkpoint: Checkpoint.open(try #require(DefaultModel.path)), compute: compute, threads: 2)
  }

  @Test func float32PathMatchesTheReferenceAtEveryLayer() throws {
    let model = try model(.float32)
    let count = model.configuration.layerCount
    for item in try reference().cases {
      let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: item.token_ids.count)
      let cache = try model.makeCache(capacity: item.token_ids.count)
      let last = item.token_ids.count - 1
      let rows = item.token_ids.indices.map { BatchRow(cache: cache, position: $0) }
      try model.embed(item.token_ids, into: states)
      var logits: [Float] = []
      for layer in 0...count {
        if layer > 0 { try model.advance(states, rows: rows, layers: layer - 1..<layer) }
        let norm = states[last].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        // The reference's last entry is the state after the final norm, which belongs to the logits here.
        if layer < count {
          let expected = item.last_position.hidden_state_l2_norm_by_layer[layer]
          #expect(abs(norm - expected) < 1e-3 * expected, "\(item.name), layer \(layer)")
        }
        guard layer > 0 else { continue }
        try model.logits(of: states, rows: last..<last + 1, into: &logits)
        if layer < count {
          let found = logits.withUnsafeBufferPointer { Logits.argmax($0) }
          #expect(
            found == item.last_position.shared_head_argmax_by_layer[layer - 1], "\(item.name), layer \(layer)"
          )
        }
      }
      for (id, value) in zip(item.last_position.top10_ids, item.last_position.top10_logits) {
        #expect(abs(logits[id] - value) < 1e-3)
      }
      for (id, value) in item.last_position.logits_first16.enumerated() {
        #expect(abs(logits[id] - value) < 1e-3)
      }
      let sum = logits.withUnsafeBufferPointer { Logits.logSumExp($0) }
      #expect(abs(sum - item.last_position.logsumexp) < 1e-3)
    }
  }

  /// Teacher-forced along the reference's own path, so that one close call does not decide the rest.
  @Test func fastPathMatchesEveryGreedyTokenOfSomeMargin() throws {
    let model = try model(.quantized)
    let layers = 0..<model.configuration.layerCount
    for item in try reference().cases {
      let all = item.token_ids + item.greedy_token_ids
      let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: all.count)
      let cache = try model.makeCache(capacity: all.count)
      try model.embed(all, into: states)
      try model.advance(
        states, rows: all.indices.map { BatchRow(cache: cache, position: $0) }, layers: layers)
      var logits: [Float] = []
      for (index, token) in item.greedy_token_ids.enumerated() where item.greedy_logit_margins[index] > 0.5 {
        let row = item.token_ids.count - 1 + index
        try model.logits(of: states, rows: row..<row + 1, into: &logits)
        #expect(logits.withUnsafeBufferPointer { Logits.argmax($0) } == token, "\(item.name), token \(index)")
      }
    }
  }

  /// −log-probability per token of the reference's prompts, on both paths.
  @Test func fastPathKeepsThePerplexity() throws {
    func meanLoss(_ compute: ComputePath) throws -> Double {
      let model = try model(compute)
      var total = 0.0
      var count = 0
      for item in try reference().cases {
        let ids = item.token_ids
        let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: ids.count)
        let cache = try model.makeCache(capacity: ids.count)
        try model.embed(ids, into: states)
        try model.advance(
          states, rows: ids.indices.map { BatchRow(cache: cache, position: $0) },
          layers: 0..<model.configuration.layerCount)
        var logits: [Float] = []
        for row in 0..<ids.count - 1 {
          try model.logits(of: states, rows: row..<row + 1, into: &logits)
          total += logits.withUnsafeBufferPointer { Logits.logSumExp($0) } - Double(logits[ids[row + 1]])
          count += 1
        }
      }
      return total / Double(count)
    }
    let ratio = try exp(meanLoss(.quantized) - meanLoss(.float32))
    #expect(abs(ratio - 1) < 0.005, "perplexity ratio \(ratio)")
  }
}
