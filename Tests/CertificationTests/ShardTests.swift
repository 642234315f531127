import Certification
import Foundation
import TestSupport
import Testing

@Suite struct ShardTests {
  @Test func `every document is in exactly one shard, whatever else there is`() throws {
    let ids: [DocumentIdentifier] = (0..<2_000).map { .number($0) } + (0..<2_000).map { .text("doc-\($0)") }
    for count in [1, 2, 3, 7, 64] {
      let shards = try (1...count).map { try Shard(index: $0, count: count) }
      var sizes = [Int](repeating: 0, count: count)
      for id in ids {
        let owners = shards.filter { $0.contains(id) }
        #expect(owners.count == 1)
        if let owner = owners.first { sizes[owner.index - 1] += 1 }
      }
      // Six standard deviations of a binomial.
      let expected = Double(ids.count) / Double(count)
      let allowed = 6 * (expected * (1 - 1 / Double(count))).squareRoot()
      for size in sizes { #expect(abs(Double(size) - expected) <= allowed, "\(sizes)") }
    }
  }

  /// Where a document goes is part of what files say: an array that was begun by one version goes on by the next.
  @Test func `documents stay where earlier versions put them`() throws {
    // From `printf '"a"' | sha256sum` and the like, the first sixteen digits modulo 7, by Python.
    let known: [(DocumentIdentifier, Int)] = [
      (.text("a"), 3),
      (.text("1"), 4),
      (.number(1), 2),
      (.number(-5), 6),
      (.text("Zürich"), 0),
    ]
    for (id, place) in known {
      for index in 1...7 {
        #expect(try Shard(index: index, count: 7).contains(id) == (index == place + 1), "\(id)")
      }
    }
  }

  @Test func `a shard is read from text`() throws {
    #expect(try Shard("3/8") == Shard(index: 3, count: 8))
    #expect(try Shard("3/8").description == "3/8")
    for text in ["", "3", "3/", "/8", "0/8", "9/8", "-1/8", "1/0", "a/b", "1/2/3", "1 / 2", "1/99999999"] {
      #expect(throws: CertificationError.self, "\(text)") { try Shard(text) }
    }
  }

  @Test func `names of files have the shard before the suffix`() throws {
    let shard = try Shard("3/8")
    #expect(shard.path(for: "out.jsonl") == "out.3-of-8.jsonl")
    #expect(shard.path(for: "a.b/out") == "a.b/out.3-of-8")
    #expect(shard.path(for: "/a/out.x.jsonl") == "/a/out.x.3-of-8.jsonl")
  }

  @Test func `a scheduler's variables name the shard`() throws {
    func slurm(_ id: Int, count: Int, from first: Int) -> [String: String] {
      [
        "SLURM_ARRAY_TASK_ID": "\(id)", "SLURM_ARRAY_TASK_COUNT": "\(count)",
        "SLURM_ARRAY_TASK_MIN": "\(first)",
      ]
    }
    #expect(try Shard.automatic(slurm(3, count: 4, from: 1), count: nil) == Shard("3/4"))
    #expect(try Shard.automatic(slurm(3, count: 4, from: 0), count: nil) == Shard("4/4"))
    // One task that is sent again is an array of one: only the number of shards tells which it is.
    #expect(try Shard.automatic(slurm(3, count: 1, from: 3), count: 4) == Shard("3/4"))
    #expect(throws: CertificationError.self) { try Shard.automatic(slurm(7, count: 3, from: 1), count: nil) }
    #expect(throws: CertificationError.self) { try Shard.automatic(slurm(0, count: 4, from: 0), count: 4) }
    #expect(throws: CertificationError.self) {
      try Shard.automatic(["SLURM_ARRAY_TASK_ID": "1"], count: nil)
    }
    #expect(try Shard.automatic(["JOB_COMPLETION_INDEX": "0"], count: 4) == Shard("1/4"))
    #expect(throws: CertificationError.self) {
      try Shard.automatic(["JOB_COMPLETION_INDEX": "0"], count: nil)
    }
    #expect(throws: CertificationError.self) {
      try Shard.automatic(["JOB_COMPLETION_INDEX": "4"], count: 4)
    }
    #expect(throws: CertificationError.self) {
      try Shard.automatic(["JOB_COMPLETION_INDEX": "x"], count: 4)
    }
    #expect(throws: CertificationError.self) { try Shard.automatic([:], count: 4) }
  }
}
