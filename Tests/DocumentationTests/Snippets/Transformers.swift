import Checkpoints
import Transformers

func nextToken(after tokens: [TokenID], model path: String) throws -> TokenID {
  // snippet
  let checkpoint = try Checkpoint.open(path)
  let model = try Transformer(checkpoint: checkpoint, threads: 1)
  let cache = try model.makeCache(capacity: tokens.count)
  let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: tokens.count)
  try model.embed(tokens, into: states)
  let rows = tokens.indices.map { BatchRow(cache: cache, position: $0) }
  try model.advance(states, rows: rows, layers: 0..<model.configuration.layerCount)
  var logits: [Float] = []
  try model.logits(of: states, rows: tokens.count - 1..<tokens.count, into: &logits)
  let next = logits.withUnsafeBufferPointer(Logits.argmax)
  // end
  return next
}
