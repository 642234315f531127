/// The whole loss curve of one sample: a step function of the threshold.
///
/// The output of one document changes at finitely many thresholds only. Piece i holds from `thresholds[i]` on, towards
/// the less safe thresholds, until `thresholds[i + 1]`, where the next piece begins (and holds at that very threshold).
public struct LossSteps: Sendable, Equatable {
  /// Where each piece begins, safest first; the first entry is the safe end, the same for every sample.
  public var thresholds: [Double]
  /// The loss of each piece.
  public var losses: [Double]
  /// The cost of each piece, or nil.
  public var costs: [Double]?

  /// Pieces of equal count; they are checked when a ``LossTable`` is made of them.
  public init(thresholds: [Double], losses: [Double], costs: [Double]? = nil) {
    self.thresholds = thresholds
    self.losses = losses
    self.costs = costs
  }
}

extension LossTable {
  /// A table with a row for every threshold at which any sample's output changes.
  ///
  /// - Parameters:
  ///   - samples: one step function a sample; all begin at the same safe end and run in the same direction.
  ///   - lossBound: B.
  ///   - firstRow: whether a first row of zeros is the full model.
  /// - Throws: ``RiskControlError`` naming the sample and its piece. O(P log P) for P pieces in all; rows are kept as
  ///   changes, never expanded.
  public init(
    steps samples: [LossSteps], lossBound: Double = 1, firstRow: FirstRow = .fullModelWhereZero
  ) throws(RiskControlError) {
    try Self.check(lossBound: lossBound)
    try Self.check(sampleCount: samples.count)
    guard let safeEnd = samples.first?.thresholds.first else {
      throw .table("the table is empty; expected at least one sample with at least one piece")
    }
    var descending: Bool?
    for (number, sample) in samples.enumerated() {
      try Self.check(
        sample, number: number, safeEnd: safeEnd, bound: lossBound, hasCosts: samples[0].costs != nil,
        descending: &descending)
    }
    let pieces = PieceRows(samples.map(\.thresholds), descending: descending ?? true)
    let losses = pieces.matrix(samples.map(\.losses))
    let costs = samples[0].costs == nil ? nil : pieces.matrix(samples.map { $0.costs ?? [] })
    self.init(
      thresholds: pieces.thresholds, lossBound: lossBound, losses: losses,
      costs: costs.map(CostTable.samples),
      firstRow: firstRow)
  }

  private static func check(
    _ sample: LossSteps, number: Int, safeEnd: Double, bound: Double, hasCosts: Bool, descending: inout Bool?
  ) throws(RiskControlError) {
    let place = "sample \(number + 1)"
    guard !sample.thresholds.isEmpty, sample.thresholds.count == sample.losses.count,
      sample.costs == nil || sample.costs?.count == sample.losses.count
    else {
      throw .table(
        "\(place): \(sample.thresholds.count) thresholds, \(sample.losses.count) losses"
          + (sample.costs.map { ", \($0.count) costs" } ?? "")
          + "; expected as many of each, and at least one")
    }
    guard hasCosts == (sample.costs != nil) else {
      throw .table("\(place): costs must be given for every sample or for none")
    }
    guard sample.thresholds[0] == safeEnd else {
      throw .table(
        "\(place): begins at threshold \(plain(sample.thresholds[0])), expected the safe end \(plain(safeEnd)) "
          + "of the first sample")
    }
    for piece in sample.thresholds.indices {
      let threshold = sample.thresholds[piece]
      guard threshold.isFinite else {
        throw .table("\(place), piece \(piece + 1): threshold is \(threshold), expected a finite number")
      }
      guard sample.losses[piece].magnitude <= bound else {
        throw .table("\(place), piece \(piece + 1): " + complaint(about: sample.losses[piece], bound: bound))
      }
      if let cost = sample.costs?[piece], !cost.isFinite {
        throw .table("\(place), piece \(piece + 1): cost is \(cost), expected a finite number")
      }
      guard piece > 0 else { continue }
      let previous = sample.thresholds[piece - 1]
      let goesDown = threshold < previous
      guard threshold != previous, goesDown == descending ?? goesDown else {
        throw .table(
          "\(place), piece \(piece + 1): threshold \(plain(threshold)) after \(plain(previous)); expected "
            + "thresholds strictly sorted from the safest on, in the direction of the other samples")
      }
      descending = goesDown
    }
  }
}

/// The pieces of all samples, sorted into the rows at which they begin.
struct PieceRows {
  let thresholds: [Double]
  private let offsets: [Int]
  private let columns: [Int32]
  private let pieces: [Int32]

  init(_ samples: [[Double]], descending: Bool) {
    let sign = descending ? -1.0 : 1.0
    var events: [(key: Double, column: Int32, piece: Int32)] = []
    events.reserveCapacity(samples.reduce(0) { $0 + $1.count })
    for (column, thresholds) in samples.enumerated() {
      for (piece, threshold) in thresholds.enumerated() {
        events.append((sign * threshold, Int32(column), Int32(piece)))
      }
    }
    events.sort { ($0.key, $0.column) < ($1.key, $1.column) }
    var thresholds: [Double] = []
    var offsets: [Int] = []
    for (number, event) in events.enumerated() where number == 0 || event.key != events[number - 1].key {
      thresholds.append(sign * event.key)
      offsets.append(number)
    }
    offsets.append(events.count)
    self.thresholds = thresholds
    self.offsets = offsets
    columns = events.map(\.column)
    pieces = events.map(\.piece)
  }

  /// The matrix of one value a piece; row 0 holds the first piece of every sample.
  func matrix(_ values: [[Double]]) -> ThresholdMatrix {
    let first = values.map { $0.first ?? 0 }
    let changes = zip(columns, pieces).map { column, piece in values[Int(column)][Int(piece)] }
    return ThresholdMatrix(
      rowCount: thresholds.count, first: first, offsets: offsets, columns: columns, values: changes)
  }
}
