import FileFormats

extension DecoderConfiguration {
  /// Checks that the sizes are possible, agree with each other and are not absurd.
  ///
  /// The limits lie well above any model of the supported families; they keep products of sizes far from overflow.
  ///
  /// - Parameters:
  ///   - file: the file that stated the configuration, for the message.
  ///   - field: what that file calls a property of this type.
  func checkLimits(
    file: String, field: (PartialKeyPath<DecoderConfiguration>) -> String
  ) throws(CheckpointError) {
    func check(
      _ property: KeyPath<DecoderConfiguration, Int>, in range: ClosedRange<Int>
    ) throws(CheckpointError) {
      let value = self[keyPath: property]
      guard range.contains(value) else {
        throw .damaged(
          file, field(property), expected: "\(range.lowerBound) to \(range.upperBound)", found: "\(value)")
      }
    }
    try check(\.layerCount, in: 1...1024)
    try check(\.hiddenSize, in: 1...65_536)
    try check(\.feedForwardSize, in: 1...1_048_576)
    try check(\.headCount, in: 1...65_536)
    try check(\.keyValueHeadCount, in: 1...headCount)
    try check(\.headSize, in: 1...65_536)
    try check(\.vocabularySize, in: 1...2_097_152)
    try check(\.contextLength, in: 1...16_777_216)
    if relativePositions == nil { try check(\.rotaryDimension, in: 2...max(headSize, 2)) }
    try checkT5Limits(file: file, field: field)
    guard headCount % keyValueHeadCount == 0 else {
      throw .damaged(
        file, field(\.keyValueHeadCount), expected: "a divisor of the \(headCount) heads",
        found: "\(keyValueHeadCount)")
    }
    guard headCount * headSize <= 1_048_576 else {
      throw .damaged(
        file, field(\.headSize), expected: "at most \(1_048_576 / headCount) for \(headCount) heads",
        found: "\(headSize)")
    }
    guard rotaryDimension % 2 == 0, rotaryDimension <= headSize else {
      throw .damaged(
        file, field(\.rotaryDimension), expected: "an even number up to the head size \(headSize)",
        found: "\(rotaryDimension)")
    }
    func checkPositive(
      _ property: KeyPath<DecoderConfiguration, Float>, upTo limit: Float
    ) throws(CheckpointError) {
      let value = self[keyPath: property]
      guard value > 0, value <= limit else {
        throw .damaged(
          file, field(property), expected: "a positive number up to \(limit)", found: "\(value)")
      }
    }
    try checkPositive(\.queryScale, upTo: 65_536)
    try checkPositive(\.embeddingScale, upTo: 65_536)
    try checkPositive(\.residualScale, upTo: 65_536)
    try checkPositive(\.outputScale, upTo: 65_536)
    for (name, cap) in [("attention", attentionLogitCap), ("output", outputLogitCap)] {
      if let cap, !(cap > 0 && cap.isFinite) {
        throw .damaged(
          file, "logit softcapping of the \(name)", expected: "a positive, finite number", found: "\(cap)")
      }
    }
    if let slidingWindow {
      guard (1...16_777_216).contains(slidingWindow.size) else {
        throw .damaged(
          file, field(\.slidingWindow), expected: "a window of 1 to 16777216", found: "\(slidingWindow.size)")
      }
      if let base = slidingWindow.rotaryBase, !(base > 0 && base.isFinite) {
        throw .damaged(
          file, "\(field(\.slidingWindow)): rotary base", expected: "a positive, finite number",
          found: "\(base)")
      }
    }
    try checkPositive(\.normEpsilon, upTo: 1)
    try checkPositive(\.rotaryBase, upTo: .greatestFiniteMagnitude)
    try checkScaling(file: file, field: field(\.rotaryScaling))
  }

  private func checkScaling(file: String, field: String) throws(CheckpointError) {
    func checkFactor(_ factor: Float, _ name: String) throws(CheckpointError) {
      guard factor > 0, factor.isFinite else {
        throw .damaged(
          file, "\(field): \(name)", expected: "a positive, finite number", found: "\(factor)")
      }
    }
    switch rotaryScaling {
    case .none: break
    case .linear(let factor): try checkFactor(factor, "factor")
    case .llama3(let factor, let low, let high, let original):
      try checkFactor(factor, "factor")
      try checkFactor(low, "low_freq_factor")
      try checkFactor(high, "high_freq_factor")
      guard low < high else {
        throw .damaged(
          file, "\(field): high_freq_factor", expected: "more than low_freq_factor, \(low)", found: "\(high)")
      }
      guard (1...16_777_216).contains(original) else {
        throw .damaged(
          file, "\(field): original_max_position_embeddings", expected: "1 to 16777216", found: "\(original)")
      }
    case .divisors(let divisors): try checkDivisors(divisors, "divisors")
    case .dynamic(let factor, let original):
      try checkFactor(factor, "factor")
      try checkContext(original)
      guard factor <= 1024, rotaryDimension > 2 else {
        throw .damaged(
          file, "\(field): factor", expected: "at most 1024, for heads of more than 2 numbers",
          found: "\(factor), \(rotaryDimension)")
      }
    case .yarn(let factor, let original, let fast, let slow, let magnitude, _):
      for (value, name) in [
        (factor, "factor"), (fast, "beta_fast"), (slow, "beta_slow"), (magnitude, "attention_factor"),
      ] { try checkFactor(value, name) }
      try checkContext(original)
      // The range is found by a logarithm of the base.
      guard rotaryBase > 1 else {
        throw .damaged(file, "\(field): base", expected: "above 1", found: "\(rotaryBase)")
      }
    case .longRope(let short, let long, let original, let magnitude):
      try checkFactor(magnitude, "attention_factor")
      try checkContext(original)
      try checkDivisors(short, "short_factor")
      try checkDivisors(long, "long_factor")
    }
    func checkContext(_ original: Int) throws(CheckpointError) {
      guard (1...16_777_216).contains(original) else {
        throw .damaged(
          file, "\(field): original_max_position_embeddings", expected: "1 to 16777216", found: "\(original)")
      }
    }
    func checkDivisors(_ divisors: [Float], _ name: String) throws(CheckpointError) {
      guard divisors.count == rotaryDimension / 2 else {
        throw .damaged(
          file, "\(field): \(name)", expected: "\(rotaryDimension / 2) of them", found: "\(divisors.count)")
      }
      for divisor in divisors { try checkFactor(divisor, name) }
    }
  }
}
