import FileFormats
import Foundation

/// The outputs of one document by threshold: a line of the file that a sweep writes.
public struct RunLine: Codable, Sendable, Equatable {
  /// Of which document.
  public var id: DocumentIdentifier
  /// Safest first, one a piece.
  public var thresholds: [Double]
  /// Megabytes of weights a token, one a piece.
  public var costs: [Double]
  /// What decoding took, one a piece.
  public var work: [SweepWork]
  /// Milliseconds of that, of a token or where prompts stop of a document, one a piece; they are not in the file, and
  /// empty until ``price(by:)``.
  public internal(set) var times: [Double] = []
  /// Layers a token, one a piece.
  public var layers: [Double]
  /// From the full model's distributions, one a piece; absent where texts are compared.
  public var distances: [Double]?
  /// What the guard says of the document; absent without one.
  public var inside: Bool?
  /// Outputs that differ from the one before; the first is the full model's.
  public var texts: [String]
  /// The piece with which each text begins.
  public var starts: [Int]

  private enum CodingKeys: String, CodingKey {
    case id, thresholds, costs, work, layers, distances, inside, texts, starts
  }

  /// The line of a document whose outputs are known.
  public init(id: DocumentIdentifier, outputs: [ThresholdSweep.Output]) {
    self.id = id
    thresholds = outputs.map(\.threshold)
    costs = outputs.map(\.cost)
    work = outputs.map(\.work)
    layers = outputs.map(\.layer)
    distances = outputs.contains { $0.distance != nil } ? outputs.map { $0.distance ?? 0 } : nil
    inside = outputs.first?.isInside
    texts = []
    starts = []
    for (index, output) in outputs.enumerated()
    where texts.last.map({ !$0.utf8.elementsEqual(output.text.utf8) }) ?? true {
      texts.append(output.text)
      starts.append(index)
    }
  }

  /// Whether every list has the length that it must have.
  public var isWhole: Bool {
    let count = thresholds.count
    return count > 0 && costs.count == count && layers.count == count
      && (distances?.count ?? count) == count
      && work.count == count && starts.count == texts.count && starts.first == 0
      && zip(starts, starts.dropFirst()).allSatisfy(<)
      && (starts.last ?? 0) < count
  }

  /// Says what each piece takes where the parts of decoding cost so much.
  ///
  /// - Throws: ``CertificationError`` for the costs of another way of decoding.
  public mutating func price(by costs: SweepCosts) throws {
    times = try zip(work, thresholds).map { try costs.milliseconds(of: $0, threshold: $1) }
  }

  /// The loss of each piece.
  public func losses(
    _ metric: QualityMetric, risk: QualityRisk, references: [String], source: String
  ) -> [Double] {
    guard case .text(let loss) = metric else { return distances ?? [] }
    let ends = starts.dropFirst() + [thresholds.count]
    return zip(texts, zip(starts, ends)).flatMap { text, range in
      let value = risk.loss(text, full: texts[0], references: references, source: source, metric: loss)
      return Array(repeating: value, count: range.1 - range.0)
    }
  }

  /// The piece that a threshold gives, thresholds falling.
  public func piece(at threshold: Double) -> Int {
    let goesDown = thresholds.count < 2 || thresholds[1] < thresholds[0]
    return thresholds.lastIndex { goesDown ? $0 >= threshold : $0 <= threshold } ?? 0
  }
}

/// A sweep's file: a line that says what it belongs to, then a line a document.
public final class RunFile {
  private let file: ResumableLines
  /// Documents so far.
  public private(set) var lines: [RunLine] = []
  /// What the parts of decoding cost, as it was known when the file was begun; `nil` for a shard whose merge is told.
  public let costs: SweepCosts?
  private let shard: ShardFile?

  /// Opens the file or makes it. Whole lines of an earlier run are kept, an incomplete last line is cut off.
  ///
  /// - Parameters:
  ///   - path: Where it is.
  ///   - settings: What a resumed run must have been made with.
  ///   - measure: Measures what the parts of decoding cost, for a new file; a shard may leave that to its merge.
  ///   - records: The documents; lines must be theirs, in order.
  ///   - shard: Of which documents the file is, where it is not of all; it is then written at the shard's partial path
  ///     instead, until ``finish()``.
  /// - Throws: ``CertificationError`` when the file holds anything else: it is then left as it is.
  public init(
    path: String, settings: RunSettings, measure: () throws -> SweepCosts?, records: [DocumentRecord],
    shard: ShardDescription? = nil
  ) throws {
    let whole = shard == nil ? nil : ShardFile(path: path)
    let path = whole?.partialPath ?? path
    self.shard = whole
    file = try ResumableLines(path: path)
    if let whole { try file.checkUnfinished(whole.path) }
    if let first = file.lines.first {
      guard (try? JSONDecoder().decode(RunSettings.self, from: Data(first))) == settings,
        Self.isContinued(first, by: shard)
      else {
        throw CertificationError(
          .runs,
          "\(path) holds the runs of another model, policy, setting or file of documents; choose another --output"
        )
      }
      guard let header = try? JSONDecoder().decode(RunHeader.self, from: Data(first)),
        header.costs != nil || shard != nil
      else {
        throw CertificationError(
          .runs, "\(path) line 1: its milliseconds are damaged; remove the file to begin again")
      }
      costs = header.costs
    } else {
      costs = try measure()
      guard costs != nil || shard != nil else {
        throw CertificationError(.runs, "\(path) has to say what the parts of decoding cost")
      }
    }
    for (index, bytes) in file.lines.dropFirst().enumerated() {
      let place = "\(path) line \(index + 2)"
      guard var line = try? JSONOutput.decode(RunLine.self, from: bytes), line.isWhole else {
        throw CertificationError(.runs, "\(place) is damaged; remove the file to begin again")
      }
      if index < records.count, line.id != records[index].id {
        throw CertificationError(
          .runs,
          "\(place) is for \(line.id), where the documents have \(records[index].id); choose another --output"
        )
      }
      if let costs { try line.price(by: costs) }
      lines.append(line)
    }
    try file.beginAppending()
    guard file.lines.isEmpty else { return }
    try file.append(RunHeader(settings: settings, costs: costs, shard: shard).line())
  }

  /// Whether a file that begins with this line is of the same documents.
  private static func isContinued(_ line: ArraySlice<UInt8>, by shard: ShardDescription?) -> Bool {
    let found = (try? JSONDecoder().decode(RunHeader.self, from: Data(line)))?.shard
    guard let found, let shard else { return found == nil && shard == nil }
    return found.shard == shard.shard && found.difference(to: shard) == nil
  }

  /// Appends a document's line.
  public func append(_ line: RunLine) throws {
    var line = line
    if let costs { try line.price(by: costs) }
    try file.append(JSONOutput.line(line))
    lines.append(line)
  }

  /// Gives a shard's file its own name: all documents are in it.
  public func finish() throws {
    if let shard { try file.finish(as: shard.path) }
  }
}
