import RealModule
import Transformers

/// Logistic regression with a small penalty, by iteratively reweighted least squares: Newton's method, each step of
/// which is a weighted ridge regression.
struct LogisticRegression {
  /// Whether both classes count alike, however many rows each has. The bias is corrected for it afterwards, so that
  /// the result is a probability either way, and those of several layers can be compared with one threshold.
  var balanced: Bool
  private static let steps = 8
  /// In parts of the mean square of an input; a weaker one lets a few hundred weights learn a few thousand rows by
  /// heart.
  private static let ridge = 0.02
  /// Beside the margin the hidden state tells little, and a weak penalty makes it tell less on other text.
  private static let ridgeBesideMargin = 0.5
  private static let batch = 1024

  /// Fits on rows of a sample, with the log-odds of the exit head's margin as one more input where they are given.
  ///
  /// - Parameters:
  ///   - rows: The rows to fit on.
  ///   - labels: By row of the sample.
  ///   - logOdds: By row of the sample, or empty.
  func fit(
    _ sample: StateSample, layer: Int, size: Int, rows: [Int], labels: [Bool], logOdds: [Double] = []
  ) throws(DecoderError) -> ClassifierConfidence.Weights {
    let positives = rows.count { labels[$0] }
    guard positives > 0, positives < rows.count else {
      // One class only: the answer is the same for every token.
      return .init(weights: Array(repeating: 0, count: size), bias: positives > 0 ? 10 : -10)
    }
    let share = Double(positives) / Double(rows.count)
    let width = size + (logOdds.isEmpty ? 1 : 2)
    var solution = [Double](repeating: 0, count: width)
    for _ in 0..<Self.steps {
      var regression = RidgeRegression(inputCount: width, outputCount: 1)
      for start in stride(from: 0, to: rows.count, by: Self.batch) {
        let part = rows[start..<min(start + Self.batch, rows.count)]
        var inputs: [Double] = []
        var outputs: [Double] = []
        inputs.reserveCapacity(part.count * width)
        for row in part {
          var input = sample.states(row..<row + 1, layer: layer).map(Double.init)
          // As large as this, neither is held back by the penalty, which is for the hidden state's many weights.
          input.append(Self.weightOfFew)
          if !logOdds.isEmpty { input.append(Self.weightOfFew * logOdds[row]) }
          var activation = 0.0
          for (value, weight) in zip(input, solution) { activation += value * weight }
          let probability = 1 / (1 + Double.exp(-activation))
          let curvature = max(probability * (1 - probability), 1e-4)
          let importance = balanced ? 0.5 / (labels[row] ? share : 1 - share) : 1
          let scale = (importance * curvature).squareRoot()
          for value in input { inputs.append(scale * value) }
          outputs.append(scale * (activation + ((labels[row] ? 1 : 0) - probability) / curvature))
        }
        try regression.add(inputs: inputs, outputs: outputs, count: part.count)
      }
      solution = try regression.solve(ridge: logOdds.isEmpty ? Self.ridge : Self.ridgeBesideMargin)
    }
    let prior = balanced ? Double.log(share / (1 - share)) : 0
    return .init(
      weights: solution[..<size].map(Float.init), bias: Float(solution[size] * Self.weightOfFew + prior),
      marginWeight: logOdds.isEmpty ? 0 : Float(solution[size + 1] * Self.weightOfFew))
  }

  private static let weightOfFew = 10.0
}
