import Foundation

/// The audits of a deployed certificate, in a file that outlives processes and that several of them may write.
///
/// The first line says what is watched. Every other line is one audit, in the order of writing. The log is the state:
/// whoever opens it feeds its lines to a ``RiskMonitor``, so that nothing is counted twice or forgotten. A line is
/// written whole, under a lock. An incomplete last line is left by a process that died, and is no audit.
public final class AuditLog {
  /// What a log watches. Logs of another header are refused.
  public struct Header: Sendable, Equatable, Codable {
    /// SHA-256 of the certificate that is deployed.
    public var certificate: String
    /// ε.
    public var epsilon: Double
    /// δ of the alarm.
    public var delta: Double
    /// B.
    public var lossBound: Double
    /// No loss lies below it.
    public var leastLoss: Double
    /// What the losses are.
    public var metric: String

    /// What to watch.
    public init(
      certificate: String, epsilon: Double, delta: Double, lossBound: Double = 1, leastLoss: Double = 0,
      metric: String
    ) {
      self.certificate = certificate
      self.epsilon = epsilon
      self.delta = delta
      self.lossBound = lossBound
      self.leastLoss = leastLoss
      self.metric = metric
    }

    enum CodingKeys: String, CodingKey {
      case certificate = "certificate_sha256"
      case epsilon, delta, metric
      case lossBound = "loss_bound"
      case leastLoss = "least_loss"
    }
  }

  /// One audit.
  public struct Entry: Sendable, Equatable, Codable {
    /// Its loss.
    public var loss: Double
    /// Seconds since 1970, or nil.
    public var time: Double?

    /// An audit.
    public init(loss: Double, time: Double? = nil) {
      self.loss = loss
      self.time = time
    }
  }

  /// What is watched.
  public let header: Header
  /// The state after every audit read or written so far.
  public private(set) var monitor: RiskMonitor
  private let path: String
  private let descriptor: Int32
  /// Bytes and lines of the file that ``monitor`` has seen.
  private var offset = 0
  private var lineCount = 0

  /// Opens a log to append to, or makes it.
  ///
  /// - Throws: ``RiskControlError`` for a file that cannot be written, a log of another header, and a damaged one.
  public init(path: String, header: Header) throws(RiskControlError) {
    self.path = path
    self.header = header
    monitor = try Self.makeMonitor(header)
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw .file("cannot be opened for writing: \(Self.systemMessage())", in: path)
    }
    try locked { () throws(RiskControlError) in try catchUp() }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Appends an audit, after taking in those that other processes have appended.
  ///
  /// - Returns: The state after it.
  /// - Throws: ``RiskControlError`` for a loss out of range or a file that cannot be written: it is then as it was.
  @discardableResult
  public func append(_ entry: Entry) throws(RiskControlError) -> RiskMonitor {
    try locked { () throws(RiskControlError) in
      try catchUp()
      var next = monitor
      try next.add(entry.loss)
      try write(Self.line(entry))
      monitor = next
    }
    return monitor
  }

  /// Reads a log as it is now, without waiting for those who write it.
  ///
  /// - Throws: ``RiskControlError`` naming the line that is no audit.
  public static func read(
    path: String
  ) throws(RiskControlError) -> (header: Header, entries: [Entry], monitor: RiskMonitor) {
    let data = try ByteSource(path: path).readToEnd()
    let lines = wholeLines(data)
    guard let first = lines.first else { throw .file("is empty, expected an audit log", in: path) }
    let header = try parseHeader(first, path: path)
    var monitor = try makeMonitor(header)
    var entries: [Entry] = []
    for (number, line) in lines.enumerated().dropFirst() {
      entries.append(try add(line, number: number + 1, to: &monitor, path: path))
    }
    return (header, entries, monitor)
  }

  // MARK: - Lines

  private static func makeMonitor(_ header: Header) throws(RiskControlError) -> RiskMonitor {
    try RiskMonitor(
      epsilon: header.epsilon, delta: header.delta, lossBound: header.lossBound, leastLoss: header.leastLoss)
  }

  private static func wholeLines(_ data: Data) -> [Data] {
    guard let end = data.lastIndex(of: UInt8(ascii: "\n")) else { return [] }
    return data[data.startIndex..<end].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
  }

  private static func line(_ value: some Encodable) throws(RiskControlError) -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return try encoder.encode(value) + Data("\n".utf8)
    } catch {
      throw .table("an audit cannot be written as JSON: its numbers must be finite")
    }
  }

  private static func parseHeader(_ line: Data, path: String) throws(RiskControlError) -> Header {
    do {
      return try JSONDecoder().decode(Header.self, from: line)
    } catch {
      throw .file("line 1 does not begin an audit log", in: path)
    }
  }

  private static func add(
    _ line: Data, number: Int, to monitor: inout RiskMonitor, path: String
  ) throws(RiskControlError) -> Entry {
    let entry: Entry
    do {
      entry = try JSONDecoder().decode(Entry.self, from: line)
    } catch {
      throw .file("line \(number) is no audit; expected a JSON object with a loss", in: path)
    }
    do throws(RiskControlError) {
      try monitor.add(entry.loss)
    } catch {
      throw .file("line \(number): \(error.description)", in: path)
    }
    return entry
  }

  // MARK: - The file

  private func locked(_ body: () throws(RiskControlError) -> Void) throws(RiskControlError) {
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw .file("cannot be locked: \(Self.systemMessage())", in: path) }
    }
    defer { _ = flock(descriptor, LOCK_UN) }
    try body()
  }

  /// Takes in what was written since; cuts off an incomplete last line; writes the header of an empty file.
  private func catchUp() throws(RiskControlError) {
    let data = try readRest()
    let lines = Self.wholeLines(data)
    let whole = lines.reduce(0) { $0 + $1.count + 1 }
    // What follows the last whole line was written by a process that died: writers hold the lock.
    if whole < data.count, ftruncate(descriptor, off_t(offset + whole)) != 0 {
      throw .file("cannot be written: \(Self.systemMessage())", in: path)
    }
    for line in lines {
      if lineCount == 0 {
        let found = try Self.parseHeader(line, path: path)
        guard found == header else { throw .file(Self.difference(found, header), in: path) }
      } else {
        _ = try Self.add(line, number: lineCount + 1, to: &monitor, path: path)
      }
      offset += line.count + 1
      lineCount += 1
    }
    if lineCount == 0 { try write(Self.line(header)) }
  }

  private static func difference(_ found: Header, _ expected: Header) -> String {
    found.certificate == expected.certificate
      ? "is the audit log of other settings: epsilon \(plain(found.epsilon)), delta \(plain(found.delta)), metric "
        + "\(found.metric)"
      : "is the audit log of another certificate, \(found.certificate)"
  }

  private func readRest() throws(RiskControlError) -> Data {
    var data = Data()
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = pread(descriptor, &buffer, buffer.count, off_t(offset + data.count))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .file("cannot be read: \(Self.systemMessage())", in: path) }
      guard count > 0 else { return data }
      data.append(contentsOf: buffer[..<count])
    }
  }

  private func write(_ line: Data) throws(RiskControlError) {
    let bytes = [UInt8](line)
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + done))
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let message = Self.systemMessage()
        _ = ftruncate(descriptor, off_t(offset))
        throw .file("cannot be written: \(message)", in: path)
      }
      done += count
    }
    offset += bytes.count
    lineCount += 1
  }

  private static func systemMessage() -> String { String(cString: strerror(errno)) }
}
