import Foundation
import LossTables
import RiskControl
import TestSupport
import Testing
import TextLosses

/// The worked examples of the documentation, on data that the tests make, against plain evaluation.
@Suite struct BuilderTests {
  @Test func `an image classifier, from logits to a certified threshold`() throws {
    var generator = SeededGenerator(seed: 3)
    let (exits, samples, classes) = (4, 600, 5)
    var logits = [Double](repeating: 0, count: exits * samples * classes)
    var labels: [Double] = []
    for sample in 0..<samples {
      let label = generator.index(below: classes)
      labels.append(Double(label))
      let difficulty = generator.uniform()
      for exit in 0..<exits {
        for k in 0..<classes {
          let signal = k == label ? 6 * Double(exit + 1) / 4 * (1 - 0.7 * difficulty) : 0
          logits[(exit * samples + sample) * classes + k] = signal + 2 * generator.uniform()
        }
      }
    }
    let outputs = try ClassifierOutputs(logits: logits, exitCount: exits, classCount: classes, labels: labels)
    for risk in ClassifierOutputs.Risk.allCases {
      let table = try outputs.table(risk: risk, exitCosts: [1, 2, 3, 4])
      #expect(table.lossBound == risk.lossBound && table.startsAtFullModel)
      let result = try Calibration(CalibrationSettings(epsilon: 0.05 * risk.lossBound)).calibrate(table)
      #expect(result.outcome.name == "certified")
      #expect((result.outcome.choice?.cost ?? 4) < 4)
    }
    #expect(
      try outputs.table(risk: .predictionGap, confidence: .margin) != outputs.table(risk: .predictionGap))
    #expect(
      try outputs.table(risk: .predictionGap, confidence: .entropy) != outputs.table(risk: .predictionGap))
  }

  @Test func `classifier losses are those of the definitions`() {
    let (early, full) = ([0.5, 0.3, 0.2], [0.1, 0.8, 0.1])
    func loss(_ risk: ClassifierOutputs.Risk, label: Int) -> Double {
      ClassifierOutputs.loss(risk, early: early, full: full, label: label)
    }
    #expect(loss(.predictionGap, label: 1) == 1)
    #expect(loss(.predictionGap, label: 0) == -1)
    #expect(loss(.predictionGap, label: 2) == 0)
    #expect(loss(.predictionConsistency, label: 2) == 1)
    // 0.25 + 0.49 + 0.04 against 0.01 + 0.04 + 0.01.
    #expect(abs(loss(.brierGap, label: 1) - (0.78 - 0.06)) < 1e-12)
    #expect(abs(loss(.brierConsistency, label: 0) - (0.16 + 0.25 + 0.01)) < 1e-12)
    // The expected Brier gap under the full model's distribution is the same number.
    let expected = (0..<3).reduce(0.0) { $0 + full[$1] * loss(.brierGap, label: $1) }
    #expect(abs(loss(.brierConsistency, label: 0) - expected) < 1e-12)
    // The full model's own class is 1.
    #expect(loss(.brierTopConsistency, label: 0) == loss(.brierGap, label: 1))
    let coefficient = zip(early, full).reduce(0.0) { $0 + ($1.0 * $1.1).squareRoot() }
    #expect(abs(loss(.hellingerConsistency, label: 0) - (1 - coefficient).squareRoot()) < 1e-12)
    #expect(abs(ClassifierOutputs.loss(.brierGap, early: [1, 0], full: [0, 1], label: 1) - 2) < 1e-12)
  }

  @Test func `confidence scores are those of the definitions`() {
    let p = [0.7, 0.2, 0.1]
    #expect(ConfidenceScore.top1.score(p) == 0.7)
    #expect(abs(ConfidenceScore.margin.score(p) - 0.5) < 1e-15)
    let entropy = -(0.7 * log(0.7) + 0.2 * log(0.2) + 0.1 * log(0.1))
    #expect(abs(ConfidenceScore.entropy.score(p) - (1 - entropy / log(3))) < 1e-15)
    #expect(ConfidenceScore.entropy.score([1, 0]) == 1 && ConfidenceScore.entropy.score([0.5, 0.5]) == 0)
    #expect(ConfidenceScore.margin.score([0.5, 0.5]) == 0)
  }

  /// Two exits of one 2 × 3 image of two classes.
  private func addImage(_ sweep: inout SegmentationSweep, first: [Double], last: [Double], labels: [Int])
    throws
  {
    let probabilities = (first + last).flatMap { [1 - $0, $0] }
    try sweep.add(probabilities: probabilities, labels: labels, exits: 2, height: 2, width: 3, classes: 2)
  }

  @Test func `segmentation, from per-pixel probabilities to a loss table`() throws {
    let (first, last) = ([0.9, 0.6, 0.2, 0.1, 0.4, 0.7], [0.9, 0.8, 0.1, 0.1, 0.8, 0.9])
    let labels = [1, 1, 0, 0, 1, -1]
    func table(
      _ aggregation: SegmentationSweep.Aggregation, _ loss: SegmentationSweep.Loss,
      _ target: SegmentationSweep.Target
    ) throws -> LossTable {
      var sweep = try SegmentationSweep(
        confidence: .top1, aggregation: aggregation, loss: loss, target: target)
      try addImage(&sweep, first: first, last: last, labels: labels)
      return try sweep.table()
    }
    // Top-1 scores 0.9, 0.6, 0.8, 0.9, 0.6, 0.7.
    func confidence(_ aggregation: SegmentationSweep.Aggregation) throws -> Double {
      try #require(table(aggregation, .miscoverage, .labels).thresholds.last)
    }
    #expect(abs(try confidence(.mean) - 0.75) < 1e-12)
    #expect(abs(try confidence(.median) - 0.75) < 1e-12)
    #expect(abs(try confidence(.quantile(0.25)) - 0.625) < 1e-12)
    // Tiles of two pixels: one, 0.9 0.6 0.9 0.6. Windows that slide: that one and 0.6 0.8 0.6 0.7.
    #expect(abs(try confidence(.tiles(size: 2, quantile: 0)) - 0.75) < 1e-12)
    #expect(abs(try confidence(.patch(size: 2, quantile: 0)) - 0.675) < 1e-12)
    #expect(abs(try confidence(.patch(size: 2, quantile: 1)) - 0.75) < 1e-12)
    #expect(abs(try confidence(.patch(size: 50, quantile: 0.5)) - 0.75) < 1e-12)
    #expect(abs(try confidence(.patch(size: 1, quantile: 0)) - 0.6) < 1e-12)
    // One of five labelled pixels is wrong at the first exit, none at the last.
    #expect(abs((try table(.mean, .miscoverage, .labels).losses(atRow: 1)?[0] ?? 0) - 0.2) < 1e-12)
    // Class 0: 2 right of 3 named; class 1: 2 of 3.
    #expect(
      abs((try table(.mean, .meanIntersectionOverUnion, .labels).losses(atRow: 1)?[0] ?? 0) - 1.0 / 3) < 1e-12
    )
    // A third class would occur nowhere: it does not count in miou, and as 0 in miou-all.
    let pairs = [(prediction: 0, truth: 0), (1, 1), (1, 0)]
    #expect(
      abs(
        SegmentationSweep.meanIntersectionOverUnion(pairs, classes: 3, countsAbsent: false) - (0.5 + 0.5) / 2)
        < 1e-12)
    #expect(
      abs(
        SegmentationSweep.meanIntersectionOverUnion(pairs, classes: 3, countsAbsent: true) - (0.5 + 0.5) / 3)
        < 1e-12)
    func brier(_ p: Double, _ y: Int) -> Double { 2 * (p - Double(y)) * (p - Double(y)) }
    var gap = 0.0
    var distance = 0.0
    for pixel in 0..<5 {
      gap += (brier(first[pixel], labels[pixel]) - brier(last[pixel], labels[pixel])) / 5
      distance += 2 * (first[pixel] - last[pixel]) * (first[pixel] - last[pixel]) / 5
    }
    #expect(abs((try table(.mean, .brier, .labels).losses(atRow: 1)?[0] ?? 0) - gap) < 1e-12)
    #expect(abs((try table(.mean, .brier, .fullModel).losses(atRow: 1)?[0] ?? 0) - distance) < 1e-12)
    #expect(try table(.mean, .brier, .labels).lossBound == 2)
  }

  @Test func `raw arrays of other systems come from safetensors`() throws {
    let folder = try TemporaryDirectory()
    func tensors(_ parts: [(String, [Int], [Double])]) throws -> String {
      var offset = 0
      let entries = parts.map { name, shape, values -> String in
        defer { offset += 8 * values.count }
        return
          "\"\(name)\":{\"dtype\":\"F64\",\"shape\":\(shape),\"data_offsets\":[\(offset),\(offset + 8 * values.count)]}"
      }
      return try folder.write(
        "t.safetensors", InputTests.safetensors("{\(entries.joined(separator: ","))}", parts.flatMap { $0.2 })
      )
    }
    let logits = [2.0, 1, 0, 3, 5, 1, 4, 0]
    let classifier = try ClassifierOutputs(logits: logits, exitCount: 2, classCount: 2, labels: [0, 1])
    let path = try tensors([("logits", [2, 2, 2], logits), ("labels", [2], [0, 1])])
    for risk in ClassifierOutputs.Risk.allCases {
      for confidence in ConfidenceScore.allCases {
        #expect(
          try LossTable(path: path, options: TableOptions(classifierRisk: risk, confidence: confidence))
            == classifier.table(risk: risk, confidence: confidence))
      }
    }
    let diffusion = try DiffusionOutputs(scores: [0.5, 0], losses: [0.25, 0], stepCount: 2).table()
    let priced = try LossTable(
      path: tensors([("scores", [1, 2], [0.5, 0]), ("losses", [1, 2], [0.25, 0])]),
      options: TableOptions(costs: .byThreshold([3, 8])))
    #expect(priced.meanCosts() == [8, 3])
    #expect(
      try LossTable(
        path: tensors([
          ("scores", [1, 2], [0.5, 0]), ("losses", [1, 2], [0.25, 0]), ("costs", [2], [3, 8]),
        ])) == priced)
    #expect(
      try LossTable(path: tensors([("scores", [1, 2], [0.5, 0]), ("losses", [1, 2], [0.25, 0])])) == diffusion
    )

    let (first, last) = ([0.9, 0.6, 0.2, 0.1, 0.4, 0.7], [0.9, 0.8, 0.1, 0.1, 0.8, 0.9])
    let labels = [1.0, 1, 0, 0, 1, -1]
    let pixels = (first + last).flatMap { [1 - $0, $0] }
    let images = try tensors([("probabilities", [1, 2, 2, 3, 2], pixels), ("labels", [1, 2, 3], labels)])
    for loss in SegmentationSweep.Loss.allCases {
      for name in ["mean", "median", "quantile:0.25", "patch", "patch:1:0", "tiles", "tiles:2:0"] {
        let aggregation = try #require(SegmentationSweep.Aggregation(name: name))
        var sweep = try SegmentationSweep(
          confidence: .entropy, aggregation: aggregation, loss: loss, target: .fullModel)
        try addImage(&sweep, first: first, last: last, labels: labels.map { Int($0) })
        let options = TableOptions(
          confidence: .entropy, aggregation: aggregation, segmentationLoss: loss,
          segmentationTarget: .fullModel)
        #expect(try LossTable(path: images, options: options) == sweep.table())
      }
    }
    #expect(SegmentationSweep.Aggregation(name: "quantile") == nil)
    // 255 stands for no label, as −1 does; another may be named.
    let marked = labels.map { $0 < 0 ? 255 : $0 }
    func unlabelled(_ labels: [Double], _ options: TableOptions = TableOptions()) throws -> LossTable {
      try LossTable(
        path: tensors([("probabilities", [1, 2, 2, 3, 2], pixels), ("labels", [1, 2, 3], labels)]),
        options: options)
    }
    #expect(try unlabelled(marked) == unlabelled(labels))
    #expect(
      try unlabelled(labels.map { $0 < 0 ? 7 : $0 }, TableOptions(ignoredLabel: 7)) == unlabelled(labels))
    #expect(throws: RiskControlError.self) { try unlabelled(labels.map { $0 < 0 ? 7 : $0 }) }
    // A label below the number of classes is a class, whatever it is called.
    #expect(try unlabelled(labels, TableOptions(ignoredLabel: 1)) == unlabelled(labels))
    #expect(throws: RiskControlError.self) {
      try LossTable(
        path: tensors([("probabilities", [1, 2, 2, 3, 2], pixels), ("labels", [1, 6], labels)]))
    }
  }

  @Test func `a certified segmentation model`() throws {
    var generator = SeededGenerator(seed: 23)
    var sweep = try SegmentationSweep(
      confidence: .margin, aggregation: .patch(size: 1, quantile: 0.25), loss: .miscoverage,
      target: .fullModel)
    for _ in 0..<400 {
      let last = (0..<6).map { _ in generator.uniform() < 0.5 ? 0.95 : 0.05 }
      let sure = generator.uniform() < 0.7
      let first = last.map { sure ? $0 : 0.5 + ($0 - 0.5) * 0.5 * (generator.uniform() - 0.3) }
      try addImage(&sweep, first: first, last: last, labels: [0, 0, 1, 1, 0, 1])
    }
    let result = try Calibration(CalibrationSettings(epsilon: 0.05)).calibrate(
      sweep.table(exitCosts: [1, 2]))
    #expect(result.outcome.name == "certified" && (result.outcome.choice?.cost ?? 2) < 1.5)
  }

  @Test func `early-exit diffusion leaves where 1 - u is above the threshold`() throws {
    let outputs = try DiffusionOutputs(
      scores: [0.5, 0.2, 0, 0.9, 0.5, 0], losses: [0.6, 0.1, 0, 0.4, 0.2, 0], stepCount: 3)
    let table = try outputs.table(exitCosts: [1, 2, 3])
    // 1 − u: 0.5, 0.8 and 0.1, 0.5 before the last step; the first sample leaves at step 2 where λ < 0.8, at step 1
    // where λ < 0.5.
    let row = try #require(table.thresholds.firstIndex(of: 0.5))
    #expect(table.losses(atRow: row) == [0.1, 0])
    #expect(table.losses(atRow: row + 1) == [0.6, 0.2])
    #expect(throws: RiskControlError.self) { try DiffusionOutputs(scores: [1.5], losses: [0], stepCount: 1) }
  }

  @Test func `a text summariser, from outputs to steps to a certificate`() throws {
    let loss = try #require(SequenceLoss(name: "rouge-l"))
    let steps = (0..<120).map { document -> LossSteps in
      let full = "the model was trained on many short documents and tested on others"
      let early = document % 9 == 0 ? "the model was tested on others" : full
      let reference = "a model trained on short documents"
      return LossSteps(
        thresholds: [1, 0.8],
        losses: [0, loss.loss(early, references: [reference]) - loss.loss(full, references: [reference])],
        costs: [30, 20])
    }
    let result = try Calibration(CalibrationSettings(epsilon: 0.1)).calibrate(LossTable(steps: steps))
    #expect(result.outcome.name == "certified" && result.outcome.choice?.threshold == 0.8)
  }

  @Test func `raw arrays that do not fit are refused by name`() throws {
    #expect(throws: RiskControlError.self) {
      try ClassifierOutputs(logits: [1, 2], exitCount: 1, classCount: 2, labels: [2])
    }
    #expect(throws: RiskControlError.self) {
      try ClassifierOutputs(logits: [1, 2], exitCount: 1, classCount: 2, labels: [.nan])
    }
    #expect(throws: RiskControlError.self) {
      try ClassifierOutputs(logits: [1, .nan], exitCount: 1, classCount: 2, labels: [0])
    }
    #expect(throws: RiskControlError.self) {
      try ClassifierOutputs(logits: [1, 2, 3], exitCount: 1, classCount: 2, labels: [0])
    }
    var sweep = try SegmentationSweep(confidence: .top1, aggregation: .mean, loss: .brier, target: .labels)
    #expect(throws: RiskControlError.self) { try sweep.table() }
    #expect(throws: RiskControlError.self) { try addImage(&sweep, first: [2], last: [1], labels: [0]) }
    #expect(throws: RiskControlError.self) {
      try addImage(
        &sweep, first: [0, 0, 0, 0, 0, 1.5], last: [0, 0, 0, 0, 0, 0], labels: [0, 0, 0, 0, 0, 0])
    }
    #expect(throws: RiskControlError.self) {
      try addImage(&sweep, first: [0, 0, 0, 0, 0, 1], last: [0, 0, 0, 0, 0, 0], labels: [0, 0, 0, 0, 0, 2])
    }
    #expect(throws: RiskControlError.self) {
      try SegmentationSweep(confidence: .top1, aggregation: .patch(size: 0), loss: .brier, target: .labels)
    }
  }
}
