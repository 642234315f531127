import Certification
import Foundation
import Generation
import RiskControl
import Serving
import Synchronization
import TestSupport
import Testing
import TextLosses

/// Outputs under a certificate that are compared with full depth while nobody is served.
@Suite struct AuditTests {
  private static let documents = (0..<12).map {
    "The mill \($0) of \($0 * 5 % 7) stones was built in \(1700 + $0 * 9)."
  }

  private static func body(_ document: String, _ rest: String = "") -> String {
    #"{"document": "\#(document)", "max_tokens": 8\#(rest)}"#
  }

  private func summary(
    _ model: LanguageModel, _ document: String, strategy: any DecodingStrategy = FullDepth()
  ) throws -> String {
    let session = try #require(
      try model.makeSession(
        for: .summarize, document: document, options: MadeCertificate.options, strategy: strategy,
        shouldStop: { false }))
    while try session.next() != nil {}
    return session.generation.text
  }

  /// The loss of each document's summary against full depth.
  private func losses(_ made: MadeCertificate) throws -> [Double] {
    let policy = try made.policy()
    return try Self.documents.map { document in
      let full = try summary(made.subject.model, document)
      let early = try summary(made.subject.model, document, strategy: policy)
      return early == full ? 0 : 1 - Rouge(.rougeL).score(early, reference: full)
    }
  }

  /// Writes the worst of audits into a log until `isEnough`.
  private func writeLosses(
    _ made: MadeCertificate, to log: String, until isEnough: (RiskMonitor, Int) -> Bool
  ) throws -> Int {
    let audit = try CertificateAudit(of: made.path, log: log)
    while !isEnough(audit.monitor, audit.monitor.count) { try audit.note(1) }
    return audit.monitor.count
  }

  @Test func `a share of the outputs is logged as egress monitor reads it`() async throws {
    let made = try MadeCertificate()
    let log = made.folder.path + "/log.jsonl"
    let expected = try losses(made)
    #expect(expected.contains { $0 > 0 })
    try await withServer(certificates: { [try made.served(for: $0).audited(share: 1, log: log)] }) { server in
      for (index, document) in Self.documents.enumerated() {
        let rest = index % 2 == 0 ? "" : #", "stream": true"#
        #expect(try await server.post("/v1/egress/summarize", Self.body(document, rest)).status == 200)
        // In turn, so that the log's order is known.
        #expect(await server.eventually { (try? AuditLog.read(path: log).entries.count) == index + 1 })
      }
      // What the certificate does not hold for is no audit, and what it says nothing about neither.
      _ = try await server.post("/v1/egress/summarize", #"{"document": "A mill.", "max_tokens": 9}"#)
      _ = try await server.post("/v1/completions", #"{"prompt": "A mill", "max_tokens": 2}"#)
      let (header, entries, monitor) = try AuditLog.read(path: log)
      #expect(try header.certificate == made.certificate.digest() && header.epsilon == 0.9)
      #expect(entries.count == expected.count && !monitor.isAlarmed)
      for (entry, loss) in zip(entries, expected) { #expect(abs(entry.loss - loss) < 1e-12) }
      let name = try made.certificate.digest().prefix(12)
      let lines = Set(try await server.ask("GET", "/metrics").text.split(separator: "\n").map(String.init))
      #expect(lines.contains("egress_audits_total{certificate=\"\(name)\"} \(expected.count)"))
      #expect(lines.contains("egress_audit_alarm{certificate=\"\(name)\"} 0"))
      #expect(lines.contains("egress_audits_waiting 0") && lines.contains("egress_audits_dropped_total 0"))
    }
  }

  @Test func `after the alarm the next certificate is used, then full depth`() async throws {
    let made = try MadeCertificate()
    let (log, other) = (made.folder.path + "/log.jsonl", made.folder.path + "/other.jsonl")
    let document = try #require(
      try zip(Self.documents, losses(made)).first { $0.1 > 0 }
    ).0
    let full = try summary(made.subject.model, document)
    let early = try summary(made.subject.model, document, strategy: made.policy())
    var fingerprints: Set<String> = []
    for alarmed in 0...2 {
      if alarmed > 0 {
        _ = try writeLosses(made, to: [log, other][alarmed - 1]) { monitor, _ in monitor.isAlarmed }
      }
      try await withServer(certificates: {
        [
          try made.served(for: $0).audited(share: 1, log: log),
          try made.served(for: $0).audited(share: 1, log: other),
        ]
      }) { server in
        let counts = try [log, other].map { try AuditLog.read(path: $0).entries.count }
        let json = try await server.post("/v1/egress/summarize", Self.body(document)).json()
        let certificate = try json.object("egress").object("certificate")
        #expect(text(json["text"]) == (alarmed == 2 ? full : early))
        #expect(certificate["applied"] as? Bool == (alarmed < 2))
        #expect((text(certificate["reason"]) ?? "").contains("alarm") == (alarmed == 2))
        try fingerprints.insert(#require(text(json["system_fingerprint"])))
        let grown = await server.eventually {
          let now = (try? [log, other].map { try AuditLog.read(path: $0).entries.count }) ?? []
          return alarmed < 2 ? now[alarmed] == counts[alarmed] + 1 : now == counts
        }
        #expect(grown)
      }
    }
    #expect(fingerprints.count == 3)
  }

  @Test func `an alarm that is raised while serving changes the next output`() async throws {
    let made = try MadeCertificate()
    let log = made.folder.path + "/log.jsonl"
    let all = try losses(made)
    let worst = try #require(all.indices.max { all[$0] < all[$1] })
    try #require(all[worst] > 0.99)
    let count = try writeLosses(made, to: made.folder.path + "/count.jsonl") { monitor, _ in monitor.isAlarmed
    }
    _ = try writeLosses(made, to: log) { _, written in written == count - 1 }
    let document = Self.documents[worst]
    try await withServer(certificates: { [try made.served(for: $0).audited(share: 1, log: log)] }) { server in
      let first = try await server.post("/v1/egress/summarize", Self.body(document)).json()
      #expect(try first.object("egress").object("certificate")["applied"] as? Bool == true)
      #expect(await server.eventually { (try? AuditLog.read(path: log).monitor.isAlarmed) == true })
      #expect(
        await server.eventually {
          (try? AuditLog.read(path: log).entries.count) == count && server.engine.outstanding == 0
        })
      // The log is written before the server itself knows.
      for _ in 0..<400 {
        let next = try await server.post("/v1/egress/summarize", Self.body(document)).json()
        guard try next.object("egress").object("certificate")["applied"] as? Bool == false else { continue }
        #expect(try text(next["text"]) == summary(made.subject.model, document))
        return
      }
      Issue.record("the alarm changes nothing")
    }
  }

  @Test func `what cannot be audited is refused`() throws {
    let made = try MadeCertificate()
    let served = try made.served(for: made.subject)
    for share in [0, -0.1, 1.1, .nan] {
      #expect(throws: ServerError.self) { try served.audited(share: share) }
    }
    // A log of another certificate.
    let other = try MadeCertificate(epsilon: 0.8)
    let log = made.folder.path + "/log.jsonl"
    _ = try served.audited(share: 1, log: log)
    #expect(throws: RiskControlError.self) {
      try other.served(for: other.subject).audited(share: 1, log: log)
    }
    var mute = made.certificate
    mute.auditEpsilon = nil
    try mute.write(to: made.path)
    let silent = try made.served(for: made.subject)
    #expect(throws: CertificationError.self) { try silent.audited(share: 1) }
  }
}
