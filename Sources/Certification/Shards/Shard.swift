import FileFormats
import Foundation

/// A part of a file's documents, for one of several machines: the `index`th of `count`, from 1.
///
/// A document belongs to a shard by the SHA-256 of its identifier alone, so that documents which are added, removed or
/// put into another order move no other document.
public struct Shard: Codable, Sendable, Equatable, CustomStringConvertible {
  /// Which one, from 1 to ``count``.
  public let index: Int
  /// How many there are.
  public let count: Int

  /// The most shards: more than any scheduler's array has tasks.
  public static let largestCount = 1_000_000

  /// - Throws: ``CertificationError`` for a number that is not in 1...count, and for a count not in
  ///   1...``largestCount``.
  public init(index: Int, count: Int) throws(CertificationError) {
    guard (1...Self.largestCount).contains(count), (1...count).contains(index) else {
      throw CertificationError(
        .shards,
        "a shard is k/n with k in 1...n and n at most \(Self.largestCount), but is \(index)/\(count)")
    }
    self.index = index
    self.count = count
  }

  /// Reads `k/n`, such as `3/8`.
  public init(_ text: String) throws(CertificationError) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1] else {
      throw CertificationError(.shards, "a shard is k/n, such as 3/8, but is \(text)")
    }
    try self.init(index: index, count: count)
  }

  /// The shard that a scheduler's variables name.
  ///
  /// Slurm's array counts as it was asked to: without a number of shards its tasks have to follow one another, and are
  /// counted from its lowest on. With one, `SLURM_ARRAY_TASK_ID` itself is the shard, from 1, so that some tasks of the
  /// array can be sent again. Kubernetes counts completions from 0 and does not say how many there are.
  ///
  /// - Parameters:
  ///   - environment: The variables by name.
  ///   - count: How many shards there are; `nil` for what Slurm says.
  /// - Throws: ``CertificationError`` where the variables are missing or do not name one shard.
  public static func automatic(_ environment: [String: String], count: Int?) throws(CertificationError)
    -> Shard
  {
    func number(_ name: String) throws(CertificationError) -> Int? {
      guard let text = environment[name], !text.isEmpty else { return nil }
      guard let value = Int(text) else {
        throw CertificationError(.shards, "\(name) is \(text), which is no whole number")
      }
      return value
    }
    if let task = try number("SLURM_ARRAY_TASK_ID") {
      if let count { return try Shard(index: task, count: count) }
      guard let tasks = try number("SLURM_ARRAY_TASK_COUNT"), let first = try number("SLURM_ARRAY_TASK_MIN")
      else {
        throw CertificationError(
          .shards, "SLURM_ARRAY_TASK_COUNT or SLURM_ARRAY_TASK_MIN is missing; give the number of shards")
      }
      guard (first..<first + max(tasks, 0)).contains(task) else {
        throw CertificationError(
          .shards,
          "task \(task) of \(tasks) from \(first) on: the array has gaps; give the number of shards, and "
            + "number the tasks from 1")
      }
      return try Shard(index: task - first + 1, count: tasks)
    }
    if let completion = try number("JOB_COMPLETION_INDEX") {
      guard let count else {
        throw CertificationError(
          .shards, "JOB_COMPLETION_INDEX does not say how many shards there are; give their number")
      }
      return try Shard(index: completion + 1, count: count)
    }
    throw CertificationError(
      .shards, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX says which shard this is")
  }

  /// As it is given: `3/8`.
  public var description: String { "\(index)/\(count)" }

  /// As it stands in the names of files: `3-of-8`.
  public var name: String { "\(index)-of-\(count)" }

  /// Whether a document belongs to it. Every document belongs to exactly one shard of each count.
  ///
  /// The number 1 and the text "1" are different identifiers.
  public func contains(_ id: DocumentIdentifier) -> Bool { Self.place(of: id, among: count) == index - 1 }

  /// From 0: the first 64 bits of the SHA-256 of the identifier, modulo the count.
  static func place(of id: DocumentIdentifier, among count: Int) -> Int {
    let digits = FileDigest.sha256(text: id.description).prefix(16)
    let number = digits.utf8.reduce(UInt64(0)) { number, digit in
      number << 4 | UInt64(digit <= UInt8(ascii: "9") ? digit & 15 : digit - UInt8(ascii: "a") + 10)
    }
    return Int(number % UInt64(count))
  }

  /// Where its results go: `out.jsonl` becomes `out.3-of-8.jsonl`.
  public func path(for output: String) -> String {
    let whole = output as NSString
    let (base, suffix) = (whole.deletingPathExtension, whole.pathExtension)
    return "\(base).\(name)" + (suffix.isEmpty ? "" : ".\(suffix)")
  }
}
