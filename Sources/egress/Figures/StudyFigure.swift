import Foundation
import RiskControl

/// Test risk over ε above cost over ε, one column a calibration size: the figure of Jazbec et al. (2024).
struct StudyFigure {
  private let cells: [Study.Measurement]
  private let delta: Double
  private let trials: Int
  /// What the measurements' cost is.
  private let cost: String

  /// Okabe and Ito's colours, which most colour-blind readers tell apart; dash patterns for the rest.
  private static let colours = ["#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#666666"]
  private static let dashes = ["", "6 3", "", "2 3", "8 3 2 3", "4 4", "1 3"]
  private let panelWidth = 300.0
  private let panelHeight = 200.0
  private let margin = (left: 74.0, top: 58.0, gapX: 44.0, gapY: 40.0, right: 24.0, bottom: 92.0)

  init(_ cells: [Study.Measurement], delta: Double, trials: Int, cost: String = "cost") {
    self.cells = cells
    self.delta = delta
    self.trials = trials
    self.cost = cost
  }

  /// - Throws: ``VerificationFailure`` for a file that cannot be written.
  func write(to path: String) throws {
    do {
      try Data(svg().utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw VerificationFailure(
        description: "\(path): the figure could not be written (\(error.localizedDescription))")
    }
  }

  private struct Axis {
    let low: Double
    let high: Double
    let start: Double
    let end: Double

    func place(_ value: Double) -> Double { start + (value - low) / (high - low) * (end - start) }

    /// About five round numbers inside the axis.
    var ticks: [Double] {
      let rough = (high - low) / 5
      let power = pow(10, (log10(rough)).rounded(.down))
      let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough } ?? rough
      let first = Int((low / step).rounded(.up))
      let last = Int((high / step + 1e-9).rounded(.down))
      return first <= last ? (first...last).map { Double($0) * step } : []
    }
  }

  func svg() -> String {
    let sizes = cells.map(\.calibrationSize).reduce(into: [Int]()) { if !$0.contains($1) { $0.append($1) } }
    let methods = cells.map(\.method).reduce(into: [Study.Method]()) {
      if !$0.contains($1) { $0.append($1) }
    }
    let hasCosts = cells.contains { $0.cost != nil }
    let rows = hasCosts ? 2.0 : 1.0
    let width =
      margin.left + Double(sizes.count) * panelWidth + Double(sizes.count - 1) * margin.gapX + margin.right
    let height = margin.top + rows * panelHeight + (rows - 1) * margin.gapY + margin.bottom
    var body = ""
    for (column, size) in sizes.enumerated() {
      let left = margin.left + Double(column) * (panelWidth + margin.gapX)
      let shown = cells.filter { $0.calibrationSize == size }
      body += Self.text(left + panelWidth / 2, margin.top - 12, "n = \(size)", anchor: "middle", size: 13)
      body += panel(
        shown, methods, left: left, top: margin.top, title: column == 0 ? "test risk" : nil, diagonal: true,
        namesEpsilon: !hasCosts, value: \.risk, over: cells.map(\.risk))
      guard hasCosts else { continue }
      body += costPanel(shown, methods, left: left, isFirst: column == 0)
    }
    body += legend(methods, top: height - 34, width: width)
    body += Self.text(
      width / 2, 22,
      "\(trials) random splits, delta = \(TableText.short(delta)); bands: one standard deviation",
      anchor: "middle", size: 12)
    return """
      <svg xmlns="http://www.w3.org/2000/svg" width="\(Self.n(width))" height="\(Self.n(height))" \
      viewBox="0 0 \(Self.n(width)) \(Self.n(height))" font-family="Helvetica, Arial, sans-serif">
      <title>Test risk and \(cost) over the tolerated risk epsilon</title>
      <rect width="100%" height="100%" fill="white"/>
      \(body)</svg>

      """
  }

  private func costPanel(
    _ shown: [Study.Measurement], _ methods: [Study.Method], left: Double,
    isFirst: Bool
  ) -> String {
    panel(
      shown.filter { $0.cost != nil }, methods, left: left, top: margin.top + panelHeight + margin.gapY,
      title: isFirst ? cost : nil, diagonal: false, namesEpsilon: true, value: \.costSpread,
      over: cells.compactMap(\.cost))
  }

  private func panel(
    _ shown: [Study.Measurement], _ methods: [Study.Method], left: Double,
    top: Double,
    title: String?, diagonal: Bool, namesEpsilon: Bool,
    value: KeyPath<Study.Measurement, Study.Spread>,
    over spreads: [Study.Spread]
  ) -> String {
    let epsilons = cells.map(\.epsilon)
    let (first, last) = (epsilons.min() ?? 0, epsilons.max() ?? 1)
    let pad = first == last ? 0.5 * first : 0
    let x = Axis(low: first - pad, high: last + pad, start: left, end: left + panelWidth)
    var low = spreads.map { $0.mean - $0.deviation }.min() ?? 0
    var high = spreads.map { $0.mean + $0.deviation }.max() ?? 1
    if diagonal { (low, high) = (min(low, 0), max(high, last)) }
    if high - low < 1e-12 { (low, high) = (low - 0.5, high + 0.5) }
    let room = 0.05 * (high - low)
    let y = Axis(low: low - room, high: high + room, start: top + panelHeight, end: top)
    var text = ""
    for tick in y.ticks {
      let height = Self.n(y.place(tick))
      text += """
        <line x1="\(Self.n(left))" x2="\(Self.n(left + panelWidth))" y1="\(height)" y2="\(height)" stroke="#e6e6e6"/>

        """
      text += Self.text(left - 8, y.place(tick) + 4, TableText.short(tick), anchor: "end", size: 11)
    }
    for tick in x.ticks {
      let (place, bottom) = (Self.n(x.place(tick)), top + panelHeight)
      text += """
        <line x1="\(place)" x2="\(place)" y1="\(Self.n(bottom))" y2="\(Self.n(bottom + 4))" stroke="#444"/>

        """
      text += Self.text(
        x.place(tick), top + panelHeight + 18, TableText.short(tick), anchor: "middle", size: 11)
    }
    text += """
      <rect x="\(Self.n(left))" y="\(Self.n(top))" width="\(Self.n(panelWidth))" height="\(Self.n(panelHeight))" \
      fill="none" stroke="#444"/>

      """
    if diagonal {
      text += Self.line(
        [(x.place(x.low), y.place(x.low)), (x.place(x.high), y.place(x.high))], "#000", dash: "3 3", width: 1)
    }
    for (number, method) in methods.enumerated() {
      let points = shown.filter { $0.method == method }.sorted { $0.epsilon < $1.epsilon }
      let colour = Self.colours[number % Self.colours.count]
      let upper = points.map {
        (x.place($0.epsilon), y.place($0[keyPath: value].mean + $0[keyPath: value].deviation))
      }
      let lower = points.map {
        (x.place($0.epsilon), y.place($0[keyPath: value].mean - $0[keyPath: value].deviation))
      }
      text +=
        "<polygon points=\"\(Self.points(upper + lower.reversed()))\" fill=\"\(colour)\" fill-opacity=\"0.13\"/>\n"
      text += Self.line(
        points.map { (x.place($0.epsilon), y.place($0[keyPath: value].mean)) }, colour,
        dash: Self.dashes[number % Self.dashes.count], width: 2)
    }
    if let title {
      let (cx, cy) = (left - 54, top + panelHeight / 2)
      text +=
        "<text x=\"\(Self.n(cx))\" y=\"\(Self.n(cy))\" transform=\"rotate(-90 "
        + "\(Self.n(cx)) \(Self.n(cy)))\" text-anchor=\"middle\" font-size=\"13\">\(title)</text>\n"
    }
    if namesEpsilon {
      text += Self.text(
        left + panelWidth / 2, top + panelHeight + 36, "tolerated risk ε", anchor: "middle", size: 13)
    }
    return text
  }

  private func legend(_ methods: [Study.Method], top: Double, width: Double) -> String {
    let entries = methods.map(\.name) + ["risk = ε"]
    let step = min(110.0, (width - 20) / Double(entries.count))
    var left = (width - step * Double(entries.count)) / 2
    var text = ""
    for (number, name) in entries.enumerated() {
      let isDiagonal = number == methods.count
      text += Self.line(
        [(left, top), (left + 24, top)], isDiagonal ? "#000" : Self.colours[number % Self.colours.count],
        dash: isDiagonal ? "3 3" : Self.dashes[number % Self.dashes.count], width: isDiagonal ? 1 : 2)
      text += Self.text(left + 29, top + 4, name, anchor: "start", size: 11)
      left += step
    }
    return text
  }

  private static func n(_ value: Double) -> String { value.formatted(places: 1) }

  private static func points(_ points: [(Double, Double)]) -> String {
    points.map { "\(n($0.0)),\(n($0.1))" }.joined(separator: " ")
  }

  private static func line(_ points: [(Double, Double)], _ colour: String, dash: String, width: Double)
    -> String
  {
    let pattern = dash.isEmpty ? "" : " stroke-dasharray=\"\(dash)\""
    return """
      <polyline points="\(Self.points(points))" fill="none" stroke="\(colour)" \
      stroke-width="\(n(width))"\(pattern)/>

      """
  }

  private static func text(_ x: Double, _ y: Double, _ text: String, anchor: String, size: Int) -> String {
    "<text x=\"\(n(x))\" y=\"\(n(y))\" text-anchor=\"\(anchor)\" font-size=\"\(size)\">\(text)</text>\n"
  }
}

extension Study.Measurement {
  /// The cost, where it is known to be there.
  var costSpread: Study.Spread { cost ?? risk }
}
