import Foundation
import RiskControl

/// Reads JSON Lines, one object a line, in one of three shapes.
///
/// - `{"threshold": 0.9, "losses": […], "cost": 4.2}` or `"costs": […]`: a row of the table a line, safest first;
/// - `{"confidences": […], "losses": […], "costs": […]}`: a sample a line, by exit;
/// - `{"thresholds": […], "losses": […], "costs": […]}`: a sample a line, the steps of its loss.
package enum JSONLinesTable {
  private struct Line: Decodable {
    var threshold: Double?
    var thresholds: [Double]?
    var confidences: [Double]?
    var losses: [Double]
    var cost: Double?
    var costs: [Double]?
  }

  private enum Shape: String {
    case rows = "\"threshold\" with \"losses\""
    case exits = "\"confidences\" with \"losses\""
    case steps = "\"thresholds\" with \"losses\""
  }

  package static func read(
    _ data: Data, name: String, options: TableOptions
  ) throws(RiskControlError) -> LossTable {
    var lines: [Line] = []
    var shape: Shape?
    let decoder = JSONDecoder()
    // NaN and infinities are no JSON; many writers emit them all the same, and they deserve a better message.
    for (number, bytes) in data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    {
      if bytes.allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) { continue }
      let place = "line \(number + 1)"
      let line: Line
      do {
        line = try decoder.decode(Line.self, from: bytes)
      } catch let error as DecodingError {
        throw .file("\(place): \(explain(error))", in: name)
      } catch {
        throw .file("\(place): not a JSON object", in: name)
      }
      let found: [Shape] = [
        line.threshold.map { _ in .rows }, line.confidences.map { _ in .exits },
        line.thresholds.map { _ in .steps },
      ].compactMap { $0 }
      guard found.count == 1, shape == nil || shape == found[0] else {
        throw .file(
          "\(place): expected \(shape?.rawValue ?? "one of \"threshold\", \"confidences\" and \"thresholds\", with \"losses\"")",
          in: name)
      }
      shape = found[0]
      if let first = lines.first, shape != .steps {
        guard line.losses.count == first.losses.count else {
          throw .file(
            "\(place): \(line.losses.count) losses, expected \(first.losses.count) as on the first line",
            in: name)
        }
        guard (line.cost == nil) == (first.cost == nil), line.costs?.count == first.costs?.count else {
          throw .file("\(place): costs must be given alike on every line", in: name)
        }
      }
      if let confidences = line.confidences, confidences.count != line.losses.count {
        throw .file(
          "\(place): \(confidences.count) confidences and \(line.losses.count) losses; expected as many of each",
          in: name)
      }
      lines.append(line)
    }
    guard let shape, let first = lines.first else {
      throw .file("the table is empty; expected one JSON object a line", in: name)
    }
    do throws(RiskControlError) {
      switch shape {
      case .rows:
        let costs: LossTable.Costs? =
          if first.cost != nil {
            .byThreshold(lines.compactMap(\.cost))
          } else if first.costs != nil {
            .bySample(lines.flatMap { $0.costs ?? [] })
          } else { nil }
        return try LossTable(
          thresholds: lines.compactMap(\.threshold), losses: lines.flatMap(\.losses),
          lossBound: options.lossBound,
          costs: options.costs ?? costs, firstRow: options.firstRow)
      case .exits:
        return try LossTable(
          confidences: lines.flatMap { $0.confidences ?? [] }, losses: lines.flatMap(\.losses),
          exitCount: first.losses.count,
          exitCosts: try options.exitCosts(lines.count)
            ?? (first.costs == nil ? nil : lines.flatMap { $0.costs ?? [] }),
          lossBound: options.lossBound, comparison: options.comparison, firstRow: options.firstRow)
      case .steps:
        guard options.costs == nil else {
          throw RiskControlError.setting(
            "steps carry their own costs; a separate list of costs cannot be assigned to them")
        }
        return try LossTable(
          steps: lines.map { LossSteps(thresholds: $0.thresholds ?? [], losses: $0.losses, costs: $0.costs) },
          lossBound: options.lossBound, firstRow: options.firstRow)
      }
    } catch {
      throw error.named(name)
    }
  }

  private static func explain(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "the key \"\(key.stringValue)\" is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      "\"\(context.codingPath.first?.stringValue ?? "")\" is not what was expected: \(context.debugDescription)"
    default: "not a JSON object (numbers must be finite: NaN and Infinity are no JSON)"
    }
  }
}
