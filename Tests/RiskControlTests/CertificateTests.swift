import Foundation
import RiskControl
import TestSupport
import Testing

@Suite struct CertificateTests {
  private func makeTable(seed: UInt64 = 1, n: Int = 400) throws -> LossTable {
    var generator = SeededGenerator(seed: seed)
    let draws = (0..<n).map { _ in generator.uniform() }
    let shares = [0, 0.01, 0.03, 0.05, 0.2]
    return try LossTable(
      thresholds: shares.indices.map { 1 - Double($0) / 10 },
      losses: shares.flatMap { share in draws.map { $0 < share ? 1.0 : $0 > 0.97 && share > 0 ? -0.5 : 0 } },
      costs: .byThreshold([30, 25, 21, 17, 10]))
  }

  private func makeCertificate(_ table: LossTable, _ rule: ThresholdRule = .ucb, _ bound: RiskBound = .wsr)
    throws -> Certificate
  {
    let order = bound == .anytime ? SampleOrder.given : .shuffled(seed: .max)
    let settings = CalibrationSettings(epsilon: 0.1, rule: rule, bound: bound, order: order)
    return Certificate(
      try Calibration(settings).calibrate(table), table: table, settings: settings,
      subject: Certificate.Subject(risk: "consistency", metric: "1 - ROUGE-L", modelDigest: "ab"),
      program: "test 1")
  }

  @Test func `a certificate reads back as it was written, and recomputes`() throws {
    let table = try makeTable()
    for rule in ThresholdRule.allCases {
      for bound in RiskBound.allCases {
        let certificate = try makeCertificate(table, rule, bound)
        let back = try Certificate.read(certificate.jsonData(), name: "c")
        if rule.controlsWithHighProbability { #expect(back == certificate) }
        #expect(try back.digest() == certificate.digest())
        try back.verify(table)
      }
    }
  }

  @Test func `every key is always there`() throws {
    let nothing = try LossTable(thresholds: [1, 0.5], losses: [Double](repeating: 1, count: 100))
    let keys = try [makeCertificate(makeTable()), makeCertificate(nothing)].map { certificate in
      let object = try JSONSerialization.jsonObject(with: certificate.jsonData()) as? [String: Any]
      return Set(try #require(object).keys)
    }
    #expect(keys[0] == keys[1])
    #expect(
      keys[0].isSuperset(of: [
        "outcome", "threshold", "index", "upper_bound", "empirical_risk", "smallest_certifiable_epsilon",
        "epsilon", "delta",
        "sample_count", "rule", "bound", "risk", "metric", "cost", "safest_cost", "data_sha256",
        "model_sha256",
        "policy_sha256", "seed", "program", "guarantee", "limits", "certificate_sha256",
      ]))
  }

  @Test func `any edited value is refused`() throws {
    let text = String(decoding: try makeCertificate(makeTable()).jsonData(), as: UTF8.self)
    var edits = 0
    for line in text.split(separator: "\n") where line.contains(" : ") {
      let key = line.split(separator: "\"")[1]
      let value = line.split(separator: " : ", maxSplits: 1)[1]
      let changed: String
      if value.hasPrefix("\"") {
        changed = value.replacingOccurrences(of: "\"", with: "\"x", options: .anchored)
      } else if let number = Double(value.replacingOccurrences(of: ",", with: "")) {
        changed = value.replacingOccurrences(of: plain(number), with: plain(number + 1))
      } else {
        continue
      }
      let edited = text.replacingOccurrences(of: "\"\(key)\" : \(value)", with: "\"\(key)\" : \(changed)")
      guard edited != text else { continue }
      edits += 1
      #expect(throws: RiskControlError.self, "\(key)") { try Certificate.read(Data(edited.utf8), name: "c") }
    }
    #expect(edits > 20)
    let extra = text.replacingOccurrences(
      of: "{\n  \"audit_epsilon\"", with: "{\n  \"approved\" : true,\n  \"audit_epsilon\"")
    #expect(extra != text)
    #expect(throws: RiskControlError.self) { try Certificate.read(Data(extra.utf8), name: "c") }
    let spaced = text.replacingOccurrences(of: "\n", with: " \n ")
    #expect(throws: Never.self) { try Certificate.read(Data(spaced.utf8), name: "c") }
    for length in stride(from: 0, to: text.utf8.count - 3, by: 37) {
      #expect(throws: RiskControlError.self) {
        try Certificate.read(Data(text.utf8.prefix(length)), name: "c")
      }
    }
  }

  @Test func `other data than those certified are refused`() throws {
    let certificate = try makeCertificate(makeTable())
    #expect(throws: RiskControlError.self) { try certificate.verify(makeTable(seed: 2)) }
  }

  @Test func `further risks and weights are part of what is verified`() throws {
    let (first, second) = (try makeTable(), try makeTable(seed: 2))
    let settings = CalibrationSettings(epsilon: 0.1)
    let results = try Calibration(settings).calibrate(together: [(first, 0.1), (second, 0.05)])
    let together = Certificate(
      results[0], table: first, settings: settings, further: [(result: results[1], table: second)],
      program: "test")
    try Certificate.read(together.jsonData(), name: "c").verify(first, further: [second])
    #expect(throws: RiskControlError.self) { try together.verify(first) }
    #expect(throws: RiskControlError.self) { try together.verify(first, further: [first]) }

    let weights = try SampleWeights((0..<400).map { $0 % 2 == 0 ? 1.5 : 0.5 }, bound: 1.5)
    let weighted = Certificate(
      try Calibration(settings).calibrate(first, weights: weights), table: first, settings: settings,
      weights: weights,
      program: "test")
    try Certificate.read(weighted.jsonData(), name: "c").verify(first, weights: weights)
    #expect(throws: RiskControlError.self) { try weighted.verify(first) }
  }

  @Test func `the sentence says what is guaranteed and what is not`() throws {
    let certificate = try makeCertificate(makeTable())
    #expect(
      certificate.guarantee
        == "With probability at least 1 - 0.1 over the draw of the 400 calibration samples, the expected "
        + "loss of a new sample at threshold 0.7 is at most 0.1.")
    #expect(certificate.limits.contains("the full model's quality is not guaranteed"))
    #expect(try makeCertificate(makeTable(), .empirical).guarantee.hasPrefix("Nothing is guaranteed"))
    #expect(
      try makeCertificate(makeTable(), .crc).guarantee.contains(
        "provided that the loss of every sample can only grow"))
  }

  @Test func `a file is written whole`() throws {
    let folder = try TemporaryDirectory()
    let certificate = try makeCertificate(makeTable())
    try certificate.write(to: folder.path + "/c.json")
    #expect(try Certificate.read(path: folder.path + "/c.json") == certificate)
    #expect(throws: RiskControlError.self) { try certificate.write(to: folder.path + "/none/c.json") }
    #expect(throws: RiskControlError.self) { try Certificate.read(path: folder.path + "/none.json") }
  }

  @Test func `a signature holds for its key and its contents alone`() throws {
    let folder = try TemporaryDirectory()
    let certificate = try makeCertificate(makeTable())
    // openssl genpkey -algorithm ed25519; openssl pkey -pubout.
    let key = try CertificateSigningKey(
      path: folder.write(
        "key.pem",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END "
          + "PRIVATE KEY-----\n"
      ))
    // The key and its public half are the first test of RFC 8032, section 7.1.
    #expect(
      key.verifyingKey.hexadecimal == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    let publicKey = try CertificateVerifyingKey(
      path: folder.write(
        "public.pem",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END "
          + "PUBLIC KEY-----\n"
      ))
    let signed = try certificate.signed(with: key)
    let back = try Certificate.read(signed.jsonData(), name: "c")
    #expect(back == signed && back.signature != nil)
    #expect(try back.digest() == certificate.digest())
    try back.checkSignature(of: publicKey, name: "c")
    try back.verify(makeTable())

    func message(_ certificate: Certificate, _ key: CertificateVerifyingKey) -> String {
      do throws(RiskControlError) {
        try certificate.checkSignature(of: key, name: "c")
        return "no error"
      } catch { return error.description }
    }
    #expect(message(certificate, publicKey).contains("is not signed"))
    #expect(message(back, CertificateSigningKey().verifyingKey).contains("signed by another key"))
    // Another certificate, made whole again by whoever edited it, under the old signature.
    var other = try makeCertificate(makeTable(seed: 2)).signed(with: CertificateSigningKey())
    let text = String(decoding: try other.jsonData(), as: UTF8.self)
    let moved = text.replacingOccurrences(
      of: other.signature?.value ?? "-", with: signed.signature?.value ?? "-"
    )
    .replacingOccurrences(of: other.signature?.publicKey ?? "-", with: signed.signature?.publicKey ?? "-")
    other = try Certificate.read(Data(moved.utf8), name: "c")
    #expect(message(other, publicKey).contains("is not of this certificate"))
    for bad in ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
      #expect(throws: RiskControlError.self) { try CertificateSigningKey(path: folder.write("bad.pem", bad)) }
    }
    #expect(throws: RiskControlError.self) { try CertificateVerifyingKey(path: folder.path + "/key.pem") }
  }
}
