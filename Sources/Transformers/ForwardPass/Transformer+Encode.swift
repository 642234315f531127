import CTensorKernels
import Checkpoints
import TensorKernels

extension Transformer {
  /// The whole source goes through the encoder's layers as one batch, for each of its tokens sees all others. Its
  /// output becomes keys and values of every decoder layer in the same pass.
  public func encode(_ source: [TokenID], into cache: KeyValueCache) throws(DecoderError) {
    guard let encoder else {
      throw .unusableSource("the model has no encoder that could read a source text")
    }
    guard !source.isEmpty else { throw .unusableSource("the text for the encoder is empty") }
    guard source.count <= configuration.contextLength else {
      throw .contextExceeded(needed: source.count, capacity: configuration.contextLength)
    }
    let states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: source.count)
    try embed(source, into: states)
    // No later token attends to the encoder's own keys and values: one layer's room serves all layers, and single
    // precision spares their unpacking for every few queries.
    guard
      let own = encoder.makeStorage(
        layers: 1, capacity: source.count, storage: .single),
      let result = makeStorage(
        layers: layers.count, capacity: source.count, storage: cacheStorage),
      let memory = own.memory, let target = result.memory
    else { throw .resources("memory for a source of \(source.count) tokens") }
    let places = source.indices.map { RowPlace(memory: memory, layout: own.layout, position: $0) }
    let targets = source.indices.map { RowPlace(memory: target, layout: result.layout, position: $0) }
    // Both halves compute on one pool, so that the decoder has to wait.
    workspace.exclusively {
      encoder.workspace.reserve(source.count)
      places.withUnsafeBufferPointer { places in
        let pass = ForwardPass(model: encoder, workspace: encoder.workspace, places: places, firstRow: 0)
        pass.begin(states)
        for layer in encoder.layers.indices { pass.encoderLayer(layer) }
        pass.storeSource(of: self, targets)
      }
    }
    for layer in layers.indices { result.filled[layer] = source.count }
    cache.source = result
  }

  private func makeStorage(layers: Int, capacity: Int, storage: KeyValueCache.Storage) -> KeyValueCache? {
    KeyValueCache(
      layerCount: layers, capacity: capacity, headCount: configuration.keyValueHeadCount,
      headSize: configuration.headSize, storage: storage)
  }
}
