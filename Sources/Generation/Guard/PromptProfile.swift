import Transformers

/// What an ``ApplicabilityGuard`` reads of a prompt: the mean over its tokens of the states after the last layer, each
/// divided by its root mean square.
package struct PromptProfile {
  /// (hiddenSize)
  private var sum: [Double]
  /// Tokens that were added.
  private(set) var count = 0
  /// ``sum`` after every ``spacing`` tokens: where another prompt with the same beginning may go on.
  private var marks: [[Double]] = []

  /// Tokens between two marks: few are then read again, and marks take little beside keys and values.
  static let spacing = 16

  package init(hiddenSize: Int) {
    sum = Array(repeating: 0, count: hiddenSize)
  }

  /// That of the first `count` tokens, a multiple of ``spacing``, from the sums of at least as many.
  init?(hiddenSize: Int, sums: [Double], count: Int) {
    let end = count / Self.spacing * hiddenSize
    guard count > 0, count.isMultiple(of: Self.spacing), end <= sums.count else { return nil }
    marks = stride(from: 0, to: end, by: hiddenSize).map { Array(sums[$0..<$0 + hiddenSize]) }
    sum = Array(sums[end - hiddenSize..<end])
    self.count = count
  }

  /// (count / spacing, hiddenSize): the marks behind one another, as a file keeps them.
  var sums: [Double] { marks.flatMap { $0 } }

  /// The last mark in the first `limit` tokens.
  func lastMark(upTo limit: Int) -> Int { min(limit / Self.spacing, marks.count) * Self.spacing }

  /// What it was after the first tokens; `nil` where there is no mark.
  func cut(to count: Int) -> PromptProfile? {
    guard count > 0, lastMark(upTo: count) == count else { return nil }
    var part = self
    part.marks = Array(marks.prefix(count / Self.spacing))
    part.sum = marks[count / Self.spacing - 1]
    part.count = count
    return part
  }

  /// Bytes of the marks.
  var byteCount: Int { marks.count * sum.count * MemoryLayout<Double>.stride }

  /// Adds the rows in use.
  package mutating func add(_ states: HiddenStates) {
    for row in 0..<states.count {
      let values = states[row]
      let square = values.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(max(values.count, 1))
      // A state of zeros has no direction to add.
      let scale = square > 0 ? 1 / square.squareRoot() : 0
      for index in values.indices { sum[index] += Double(values[index]) * scale }
      count += 1
      if count.isMultiple(of: Self.spacing) { marks.append(sum) }
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
  /// - Parameters:
  ///   - prompt: Tokens, at least one.
  ///   - layer: The layer after which the states are read; `nil` for the last.
  ///   - shouldStop: Asked before each part of the pass.
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
