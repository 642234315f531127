import RiskControl

/// Collects images of an early-exit segmentation model (ADP-C), one at a time, into a loss table.
public struct SegmentationSweep: Sendable {
  /// How the confidences of an image's pixels become one number.
  public enum Aggregation: Sendable, Equatable {
    /// Their mean.
    case mean
    /// Their median.
    case median
    /// Their quantile at this level, linear between order statistics.
    case quantile(Double)
    /// The quantile at this level of the means of all square windows, which slide by one pixel; an image smaller than
    /// a window is one. The paper's: 50 pixels, 0.01.
    case patch(size: Int = 50, quantile: Double = 0.01)
    /// The same of windows that do not overlap; what is left at the right and lower edge is left out.
    case tiles(size: Int = 50, quantile: Double = 0.01)

    /// Reads `mean`, `median`, `quantile:0.25`, `patch`, `patch:50:0.01`, `tiles` or `tiles:50:0.01`; nil for
    /// anything else.
    public init?(name: String) {
      let parts = name.split(separator: ":", omittingEmptySubsequences: false)
      switch (parts[0], parts.count) {
      case ("mean", 1): self = .mean
      case ("median", 1): self = .median
      case ("patch", 1): self = .patch()
      case ("tiles", 1): self = .tiles()
      case ("quantile", 2):
        guard let level = Double(parts[1]) else { return nil }
        self = .quantile(level)
      case ("patch", 3):
        guard let size = Int(parts[1]), let level = Double(parts[2]) else { return nil }
        self = .patch(size: size, quantile: level)
      case ("tiles", 3):
        guard let size = Int(parts[1]), let level = Double(parts[2]) else { return nil }
        self = .tiles(size: size, quantile: level)
      default: return nil
      }
    }
  }

  /// The loss of an image.
  public enum Loss: String, Sendable, Equatable, CaseIterable {
    /// Share of pixels predicted wrong; B = 1.
    case miscoverage
    /// 1 − mean intersection over union over the classes that occur in prediction or truth; absent classes do not
    /// count; B = 1.
    case meanIntersectionOverUnion = "miou"
    /// 1 − mean intersection over union over all classes, where an absent one counts as 0, as in the paper's code; B
    /// = 1.
    case meanIntersectionOverUnionOfAll = "miou-all"
    /// Mean Brier score of the pixels; B = 2.
    case brier

    /// B.
    public var lossBound: Double { self == .brier ? 2 : 1 }
  }

  /// What an exit is compared with.
  public enum Target: String, Sendable, Equatable, CaseIterable {
    /// The labels: the loss at the exit minus the loss at the last exit, signed.
    case labels
    /// The last exit: the loss at the exit where the last exit's predictions (for Brier its distributions) are the
    /// truth.
    case fullModel = "full-model"
  }

  private let confidence: ConfidenceScore
  private let aggregation: Aggregation
  private let loss: Loss
  private let target: Target
  private let ignoredLabel: Int
  private var confidences: [Double] = []
  private var losses: [Double] = []
  private var exitCount: Int?

  /// The label of unlabelled pixels in Cityscapes, GTA5 and others.
  public static let usualIgnoredLabel = 255

  /// An empty collection.
  ///
  /// - Parameters:
  ///   - confidence: the score of a pixel's distribution.
  ///   - aggregation: how an image's confidence comes of its pixels'.
  ///   - loss: the loss of an image.
  ///   - target: what the loss compares with.
  ///   - ignoredLabel: the label of pixels that have none, unless there are more classes than that.
  /// - Throws: `RiskControlError` for a quantile outside [0, 1] or a window below one pixel.
  public init(
    confidence: ConfidenceScore, aggregation: Aggregation, loss: Loss, target: Target,
    ignoredLabel: Int = SegmentationSweep.usualIgnoredLabel
  ) throws(RiskControlError) {
    switch aggregation {
    case .mean, .median: break
    case .quantile(let level), .patch(_, let level), .tiles(_, let level):
      guard level >= 0, level <= 1 else {
        throw .setting("the quantile must lie in [0, 1], found \(plain(level))")
      }
    }
    switch aggregation {
    case .patch(let size, _) where size < 1, .tiles(let size, _) where size < 1:
      throw .setting("the window must be at least 1 pixel wide, found \(size)")
    default: break
    }
    self.confidence = confidence
    self.aggregation = aggregation
    self.loss = loss
    self.target = target
    self.ignoredLabel = ignoredLabel
  }

  /// Adds an image.
  ///
  /// - Parameters:
  ///   - probabilities: row-major (exits, height, width, classes); each pixel's sum to 1.
  ///   - labels: (height, width), the class of each pixel; a negative label, or the ignored one, leaves its pixel out
  ///     of the loss; its confidence counts, for a model knows no labels.
  ///   - exits: the number of exits, the same for every image.
  ///   - height: pixels down.
  ///   - width: pixels across.
  ///   - classes: the number of classes.
  /// - Throws: `RiskControlError` for shapes or values that do not fit. O(exits · pixels · classes).
  public mutating func add(
    probabilities: [Double], labels: [Int], exits: Int, height: Int, width: Int, classes: Int
  ) throws(RiskControlError) {
    let place = "image \(confidences.count / max(exitCount ?? 1, 1) + 1)"
    guard exits > 0, classes > 0, height > 0, width > 0,
      NumericArray.count(of: [exits, height, width, classes]) == probabilities.count,
      labels.count == height * width
    else {
      throw .table(
        "\(place): \(probabilities.count) probabilities and \(labels.count) labels, expected \(exits) × \(height) × "
          + "\(width) × \(classes) and \(height) × \(width)")
    }
    guard exitCount == nil || exitCount == exits else {
      throw .table("\(place): \(exits) exits, expected \(exitCount ?? 0) as in the first image")
    }
    if let bad = probabilities.firstIndex(where: { !($0 >= 0 && $0 <= 1) }) {
      throw .table("\(place): probability \(bad + 1) is \(probabilities[bad]), expected a number in [0, 1]")
    }
    let labels = ignoredLabel >= classes ? labels.map { $0 == ignoredLabel ? -1 : $0 } : labels
    if let bad = labels.firstIndex(where: { $0 >= classes }) {
      throw .table("\(place): label of pixel \(bad + 1) is \(labels[bad]), expected less than \(classes)")
    }
    let pixels = labels.indices.filter { labels[$0] >= 0 }
    guard !pixels.isEmpty else { throw .table("\(place): no pixel has a label") }
    exitCount = exits
    let size = height * width * classes
    func pixel(_ exit: Int, _ index: Int) -> ArraySlice<Double> {
      let start = exit * size + index * classes
      return probabilities[start..<start + classes]
    }
    let truth = target == .labels ? labels : labels.indices.map { argmax(pixel(exits - 1, $0)) }
    var raw: [Double] = []
    for exit in 0..<exits {
      let scores = labels.indices.map { confidence.score(pixel(exit, $0)) }
      confidences.append(min(max(aggregation.value(scores, height: height, width: width), 0), 1))
      switch loss {
      case .miscoverage:
        let wrong = pixels.count { argmax(pixel(exit, $0)) != truth[$0] }
        raw.append(Double(wrong) / Double(pixels.count))
      case .meanIntersectionOverUnion, .meanIntersectionOverUnionOfAll:
        raw.append(
          1
            - Self.meanIntersectionOverUnion(
              pixels.map { (argmax(pixel(exit, $0)), truth[$0]) }, classes: classes,
              countsAbsent: loss == .meanIntersectionOverUnionOfAll))
      case .brier:
        let sum = pixels.reduce(0.0) { sum, index in
          if target == .labels { return sum + brierScore(pixel(exit, index), label: truth[index]) }
          return sum
            + zip(pixel(exit, index), pixel(exits - 1, index)).reduce(0) {
              $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
            }
        }
        raw.append(min(2, sum / Double(pixels.count)))
      }
    }
    let full = raw[exits - 1]
    losses += raw.map { target == .labels ? $0 - full : $0 }
  }

  /// Mean over the classes that occur in prediction or truth of |both|/|either|; over all classes, where
  /// `countsAbsent`.
  package static func meanIntersectionOverUnion(
    _ pairs: [(prediction: Int, truth: Int)], classes: Int, countsAbsent: Bool
  ) -> Double {
    var (both, either) = ([Int](repeating: 0, count: classes), [Int](repeating: 0, count: classes))
    for (prediction, truth) in pairs {
      either[prediction] += 1
      if prediction == truth { both[truth] += 1 } else { either[truth] += 1 }
    }
    let present = (0..<classes).filter { either[$0] > 0 }
    return present.reduce(0.0) { $0 + Double(both[$1]) / Double(either[$1]) }
      / Double(max(countsAbsent ? classes : present.count, 1))
  }

  /// The table of the images added, swept over every distinct confidence.
  ///
  /// - Throws: `RiskControlError` where no image was added, or costs do not fit. O(N L log(N L)).
  public func table(
    exitCosts: [Double]? = nil, comparison: ExitComparison = .atLeast
  ) throws(RiskControlError) -> LossTable {
    guard let exitCount else { throw .table("no images were added") }
    return try LossTable(
      confidences: confidences, losses: losses, exitCount: exitCount, exitCosts: exitCosts,
      lossBound: loss.lossBound, comparison: comparison)
  }
}

extension SegmentationSweep.Aggregation {
  /// One number from the scores of (height, width) pixels.
  func value(_ scores: [Double], height: Int, width: Int) -> Double {
    switch self {
    case .mean: return scores.reduce(0, +) / Double(scores.count)
    case .median: return Self.quantile(scores, 0.5)
    case .quantile(let level): return Self.quantile(scores, level)
    case .patch(let size, let level):
      return Self.quantile(
        Self.windowMeans(scores, height: height, width: width, size: size, isSliding: true), level)
    case .tiles(let size, let level):
      return Self.quantile(
        Self.windowMeans(scores, height: height, width: width, size: size, isSliding: false), level)
    }
  }

  /// The means of square windows, from sums over all pixels above and to the left. O(pixels).
  private static func windowMeans(
    _ scores: [Double], height: Int, width: Int, size: Int, isSliding: Bool
  ) -> [Double] {
    let (rows, columns) = (min(size, height), min(size, width))
    var sums = [Double](repeating: 0, count: (height + 1) * (width + 1))
    for row in 0..<height {
      var sum = 0.0
      for column in 0..<width {
        sum += scores[row * width + column]
        sums[(row + 1) * (width + 1) + column + 1] = sums[row * (width + 1) + column + 1] + sum
      }
    }
    var means: [Double] = []
    for top in stride(from: 0, through: height - rows, by: isSliding ? 1 : rows) {
      for left in stride(from: 0, through: width - columns, by: isSliding ? 1 : columns) {
        let (upper, lower) = (top * (width + 1), (top + rows) * (width + 1))
        let sum =
          sums[lower + left + columns] - sums[upper + left + columns] - sums[lower + left]
          + sums[upper + left]
        means.append(sum / Double(rows * columns))
      }
    }
    return means
  }

  /// Linear between order statistics, as NumPy's default.
  static func quantile(_ values: [Double], _ level: Double) -> Double {
    let sorted = values.sorted()
    let position = level * Double(sorted.count - 1)
    let below = Int(position)
    let share = position - Double(below)
    return below + 1 < sorted.count
      ? sorted[below] + share * (sorted[below + 1] - sorted[below]) : sorted[below]
  }
}
