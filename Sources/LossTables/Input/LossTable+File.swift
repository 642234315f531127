import Foundation
import RiskControl

extension LossTable {
  /// Reads a table from a file, its format told by its first bytes.
  ///
  /// - CSV: thresholds in the first column, safest first, one column a sample; or with ``TableOptions/confidencesPath``
  ///   samples × exits.
  /// - .npy: the same layout as CSV; or K×N with ``TableOptions/thresholdsPath``.
  /// - safetensors: `losses` (K, N) with `thresholds` (K); `losses` (N, L) with `confidences` (N, L); either with
  ///   `costs`; `scores` (N, steps) with `losses` for diffusion; `logits` (exits, N, classes) with `labels` (N) for a
  ///   classifier; `probabilities` (N, exits, height, width, classes) with `labels` (N, height, width) for
  ///   segmentation.
  /// - JSON Lines: a row, a sample by exit, or a sample's steps a line.
  ///
  /// - Parameters:
  ///   - path: a file, or `-` for standard input.
  ///   - options: B, costs and what else the file does not say.
  /// - Throws: ``RiskControlError`` naming file, row, column, expected and found.
  public init(path: String, options: TableOptions = TableOptions()) throws(RiskControlError) {
    let source = try ByteSource(path: path)
    let start = try source.peek(16)
    do throws(RiskControlError) {
      if Array(start.prefix(6)) == NumPyFile.magic {
        self = try Self.table(try NumPyFile.read(source), cells: CellNames(firstColumn: 2), options: options)
      } else if start.count > 8, start[7] == 0, start[8] == UInt8(ascii: "{") {
        self = try Self.table(named: try SafetensorsFile.read(source), options: options)
      } else if start.first(where: { $0 > 0x20 }) == UInt8(ascii: "{") {
        self = try JSONLinesTable.read(try source.readToEnd(), name: source.name, options: options)
      } else {
        let rows = try DelimitedText.read(try source.readToEnd(), name: source.name)
        self = try Self.table(
          NumericArray(shape: [rows.rowCount, rows.columnCount], values: rows.values),
          cells: CellNames(firstRow: rows.firstLine, firstColumn: 2), options: options)
      }
    } catch {
      throw error.named(source.name)
    }
  }

  /// Reads a file of numbers: costs, weights, thresholds; one a line, CSV or .npy.
  public static func numbers(path: String) throws(RiskControlError) -> [Double] {
    try array(path: path).values
  }

  /// Costs from a file: one a row, or one a row and sample.
  public static func costs(path: String) throws(RiskControlError) -> Costs {
    let array = try array(path: path)
    return array.shape.count < 2 || array.shape[0] == 1 || array.shape[1] == 1
      ? .byThreshold(array.values) : .bySample(array.values)
  }

  static func array(path: String) throws(RiskControlError) -> NumericArray {
    let source = try ByteSource(path: path)
    if try source.peek(6) == NumPyFile.magic { return try NumPyFile.read(source) }
    let rows = try DelimitedText.read(try source.readToEnd(), name: source.name)
    return NumericArray(shape: [rows.rowCount, rows.columnCount], values: rows.values)
  }

  /// A matrix without names: thresholds in its first column, unless they or confidences come from a file of their own.
  private static func table(
    _ array: consuming NumericArray, cells: CellNames, options: TableOptions
  ) throws(RiskControlError) -> LossTable {
    guard array.shape.count == 2 else {
      throw .table("the array is \(array.shapeText), expected two dimensions")
    }
    if let path = options.confidencesPath {
      let confidences = try Self.array(path: path)
      guard confidences.shape == array.shape else {
        throw .table(
          "the confidences are \(confidences.shapeText), expected \(array.shapeText) like the losses",
          in: path)
      }
      return try LossTable(
        confidences: confidences.values, losses: array.values, exitCount: array.shape[1],
        exitCosts: try options.exitCosts(array.shape[0]), lossBound: options.lossBound,
        comparison: options.comparison, firstRow: options.firstRow)
    }
    if let path = options.thresholdsPath {
      let thresholds = try numbers(path: path)
      guard thresholds.count == array.shape[0] else {
        throw .table(
          "\(thresholds.count) thresholds, expected \(array.shape[0]), one a row of the losses", in: path)
      }
      return try LossTable(
        thresholds: thresholds, losses: array.values, lossBound: options.lossBound, costs: options.costs,
        firstRow: options.firstRow, cells: CellNames(firstRow: cells.firstRow))
    }
    let (rows, columns) = (array.shape[0], array.shape[1])
    guard rows > 0 else {
      throw .table("the table is empty; expected at least one threshold with its losses")
    }
    guard columns > 1 else {
      throw .table("the table has \(columns) columns; expected a column of thresholds and one a sample")
    }
    // The thresholds are taken out in place: a table may fill half the memory.
    var values: [Double] = []
    swap(&values, &array.values)
    let thresholds = (0..<rows).map { values[$0 * columns] }
    values.withUnsafeMutableBufferPointer { values in
      for row in 0..<rows {
        for column in 1..<columns {
          values[row * (columns - 1) + column - 1] = values[row * columns + column]
        }
      }
    }
    values.removeLast(rows)
    return try LossTable(
      thresholds: thresholds, losses: values, lossBound: options.lossBound, costs: options.costs,
      firstRow: options.firstRow, cells: cells)
  }

  /// Named arrays; the names say what they are.
  private static func table(
    named arrays: [String: NumericArray], options: TableOptions
  ) throws(RiskControlError) -> LossTable {
    func expect(_ name: String, _ shape: [Int]) throws(RiskControlError) -> [Double] {
      guard let array = arrays[name] else {
        throw .table("no tensor \"\(name)\"; the file has \(arrays.keys.sorted().joined(separator: ", "))")
      }
      guard array.shape == shape else {
        throw .table("tensor \(name) is \(array.shapeText), expected \(NumericArray.text(of: shape))")
      }
      return array.values
    }
    if let logits = arrays["logits"] {
      guard logits.shape.count == 3 else {
        throw .table("tensor logits is \(logits.shapeText), expected exits × samples × classes")
      }
      let outputs = try ClassifierOutputs(
        logits: logits.values, exitCount: logits.shape[0], classCount: logits.shape[2],
        labels: try expect("labels", [logits.shape[1]]))
      return try outputs.table(
        risk: options.classifierRisk, confidence: options.confidence,
        exitCosts: try options.exitCosts(logits.shape[1]) ?? arrays["costs"]?.values,
        comparison: options.comparison)
    }
    if let probabilities = arrays["probabilities"] {
      return try segmentation(probabilities, arrays: arrays, options: options)
    }
    guard let losses = arrays["losses"] else {
      throw .table(
        "no tensor \"losses\", \"logits\" or \"probabilities\"; the file has "
          + "\(arrays.keys.sorted().joined(separator: ", "))"
      )
    }
    guard losses.shape.count == 2 else {
      throw .table("tensor losses is \(losses.shapeText), expected two dimensions")
    }
    if arrays["scores"] != nil {
      return try DiffusionOutputs(
        scores: try expect("scores", losses.shape), losses: losses.values, stepCount: losses.shape[1]
      ).table(
        exitCosts: try options.exitCosts(losses.shape[0]) ?? arrays["costs"]?.values,
        lossBound: options.lossBound,
        firstRow: options.firstRow)
    }
    if arrays["confidences"] != nil {
      return try LossTable(
        confidences: try expect("confidences", losses.shape), losses: losses.values,
        exitCount: losses.shape[1],
        exitCosts: try options.exitCosts(losses.shape[0]) ?? arrays["costs"]?.values,
        lossBound: options.lossBound,
        comparison: options.comparison, firstRow: options.firstRow)
    }
    var costs = options.costs
    if costs == nil, let array = arrays["costs"] {
      costs = array.shape == losses.shape ? .bySample(array.values) : .byThreshold(array.values)
    }
    return try LossTable(
      thresholds: try expect("thresholds", [losses.shape[0]]), losses: losses.values,
      lossBound: options.lossBound,
      costs: costs, firstRow: options.firstRow)
  }

  /// Images one by one out of (images, exits, height, width, classes); a pixel without a label has a negative one, or
  /// the ignored one.
  private static func segmentation(
    _ probabilities: NumericArray, arrays: [String: NumericArray], options: TableOptions
  ) throws(RiskControlError) -> LossTable {
    let shape = probabilities.shape
    guard shape.count == 5, !shape.contains(0) else {
      throw .table(
        "tensor probabilities is \(probabilities.shapeText), expected images × exits × height × width × classes"
      )
    }
    guard let labels = arrays["labels"], labels.shape == [shape[0], shape[2], shape[3]] else {
      throw .table(
        "tensor labels is \(arrays["labels"]?.shapeText ?? "missing"), expected "
          + NumericArray.text(of: [shape[0], shape[2], shape[3]]))
    }
    if let bad = labels.values.firstIndex(where: { $0 != $0.rounded() || $0.magnitude > 1e9 || $0.isNaN }) {
      throw .table("label \(bad + 1) is \(plain(labels.values[bad])), expected a whole number")
    }
    var sweep = try SegmentationSweep(
      confidence: options.confidence, aggregation: options.aggregation, loss: options.segmentationLoss,
      target: options.segmentationTarget, ignoredLabel: options.ignoredLabel)
    let (size, pixels) = (probabilities.values.count / shape[0], shape[2] * shape[3])
    for image in 0..<shape[0] {
      try sweep.add(
        probabilities: Array(probabilities.values[image * size..<(image + 1) * size]),
        labels: labels.values[image * pixels..<(image + 1) * pixels].map { Int($0) }, exits: shape[1],
        height: shape[2], width: shape[3], classes: shape[4])
    }
    return try sweep.table(
      exitCosts: try options.exitCosts(shape[0]) ?? arrays["costs"]?.values, comparison: options.comparison)
  }
}
