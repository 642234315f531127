import Transformers

/// What an ``ApplicabilityGuard`` reads of a prompt: the mean over its tokens of the states after the last layer, each
/// divided by its root mean square.
package struct PromptProfile {
  /// Tokens from one kept sum to the next.
  static let interval = 16

  /// (hiddenSize)
  private var sum: [Double]
  private var count = 0
  /// (count / interval, hiddenSize): the sum after every ``interval`` tokens; `nil` where they are not kept.
  private(set) var sums: [Double]?

  /// - Parameter keepsSums: Whether the sums on the way are kept, for a file that lets other prompts go on from them.
  package init(hiddenSize: Int, keepsSums: Bool = false) {
    sum = Array(repeating: 0, count: hiddenSize)
    sums = keepsSums ? [] : nil
  }

  /// That of the first `count` tokens, a multiple of ``interval``, from the sums of at least as many.
  init?(hiddenSize: Int, sums: [Double], count: Int) {
    let end = count / Self.interval * hiddenSize
    guard count > 0, count % Self.interval == 0, end <= sums.count else { return nil }
    sum = Array(sums[end - hiddenSize..<end])
    self.sums = Array(sums[..<end])
    self.count = count
  }

  /// Adds the rows in use.
  package mutating func add(_ states: HiddenStates) {
    for row in 0..<states.count {
      let values = states[row]
      let square = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(max(values.count, 1))
      // A state of zeros has no direction to add.
      let scale = square > 0 ? 1 / square.squareRoot() : 0
      for index in values.indices { sum[index] += Double(values[index]) * scale }
      count += 1
      if count % Self.interval == 0 { sums?.append(contentsOf: sum) }
    }
  }

  /// (hiddenSize)
  package var mean: [Float] { sum.map { Float($0 / Double(max(count, 1))) } }
}

extension LanguageModel {
  /// What a guard reads of a prompt: the mean over its tokens of the states after the last layer, each divided by its
  /// root mean square. Of an encoder-decoder it is the state of the token that an output begins with, which has seen
  /// the whole source.
  ///
  /// - Parameter layer: Reads the states after this layer instead of the last.
  /// - Returns: (hiddenSize), or `nil` when `shouldStop` said so.
  /// - Throws: What a session throws for a prompt that does not fit.
  /// - Complexity: That of the prompt's pass.
  public func promptProfile(
    _ prompt: [TokenID], layer: Int? = nil, shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> [Float]? {
    let last = decoder.configuration.layerCount
    if let layer, !(1...last).contains(layer) {
      throw GenerationError.option(field: "layer of a guard", expected: "in 1...\(last)", found: "\(layer)")
    }
    let sequence = try SequenceDecoding(
      model: self, prompt: prompt, options: GenerationOptions(maxTokens: 1))
    let watched = layer.map { $0 < last ? [$0] : [] } ?? []
    var buffers = DecodingBuffers(decoder: decoder, watching: Set(watched))
    let states = watched.first.flatMap { buffers.watched[$0] } ?? buffers.states
    var profile = PromptProfile(hiddenSize: decoder.configuration.hiddenSize)
    guard
      try buffers.readPrompt(
        of: sequence, shouldStop: shouldStop, observe: { _ in profile.add(states) })
    else { return nil }
    return profile.mean
  }
}
