import DecoderModels

/// Logistic regression with a small penalty, by iteratively reweighted least squares: Newton's method, each step of
/// which is a weighted ridge regression.
struct LogisticRegression {
  /// Whether both classes count alike, however many rows each has.
  var balanced: Bool
  private static let steps = 8
  /// In parts of the mean square of an input; a weaker one lets a few hundred weights learn a few thousand rows by heart.
  private static let ridge = 0.02
  private static let batch = 1024

  /// - Parameters:
  ///   - rows: The rows to fit on.
  ///   - labels: By row of the sample.
  func fit(
    _ sample: StateSample, layer: Int, size: Int, rows: [Int], labels: [Bool]
  ) throws(DecoderError) -> ClassifierConfidence.Weights {
    let positives = rows.count { labels[$0] }
    guard positives > 0, positives < rows.count else {
      // One class only: the answer is the same for every token.
      return .init(weights: Array(repeating: 0, count: size), bias: positives > 0 ? 10 : -10)
    }
    let share = Double(positives) / Double(rows.count)
    var solution = [Double](repeating: 0, count: size + 1)
    for _ in 0..<Self.steps {
      var regression = RidgeRegression(inputCount: size + 1, outputCount: 1)
      for start in stride(from: 0, to: rows.count, by: Self.batch) {
        let part = rows[start..<min(start + Self.batch, rows.count)]
        var inputs: [Double] = []
        var outputs: [Double] = []
        inputs.reserveCapacity(part.count * (size + 1))
        for row in part {
          let state = sample.states(row..<row + 1, layer: layer)
          var activation = solution[size]
          for i in 0..<size { activation += Double(state[i]) * solution[i] }
          let probability = 1 / (1 + exponential(-activation))
          let curvature = max(probability * (1 - probability), 1e-4)
          let importance = balanced ? 0.5 / (labels[row] ? share : 1 - share) : 1
          let scale = (importance * curvature).squareRoot()
          let target = activation + ((labels[row] ? 1 : 0) - probability) / curvature
          for value in state { inputs.append(scale * Double(value)) }
          inputs.append(scale)
          outputs.append(scale * target)
        }
        try regression.add(inputs: inputs, outputs: outputs, count: part.count)
      }
      solution = try regression.solve(ridge: Self.ridge)
    }
    return .init(weights: solution[..<size].map(Float.init), bias: Float(solution[size]))
  }
}
