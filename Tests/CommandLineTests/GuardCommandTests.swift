import Foundation
import TestSupport
import Testing

/// Certificates that are applied only to documents like those they were made with.
@Suite struct GuardCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  /// Documents of one kind: they differ in digits.
  private func writeDocuments(_ name: String = "docs.jsonl", count: Int = 80) throws -> String {
    let lines = (0..<count).map { index in
      let words = (0..<6).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
      return #"{"id": \#(index), "document": "\#(words)", "references": ["some words \#(index)"]}"#
    }
    return try egress.folder.write(name, lines.joined(separator: "\n") + "\n")
  }

  private func calibrate(_ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--risk",
        "consistency", "--rule", "empirical", "--epsilon", "0.99",
      ] + options)
  }

  private func summarize(_ document: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      ["summarize", "--model", model, "--max-tokens", "6", "--format", "json"] + options, input: document)
  }

  private func certificate(_ name: String = "docs.certificate.json") throws -> [String: Any] {
    try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: egress.path(name))))
        as? [String: Any])
  }

  private static let foreign = "Vxqz, Kjwy! (Zbrq) [Hmpf] -- WXYZ; QQ & JJ ~ ~ UU?"

  @Test func `a document unlike those that certify is decoded at full depth, and the output says so`() throws
  {
    let made = try calibrate(try writeDocuments())
    #expect(made.status == 0, "\(made.errors)")
    let policy = try #require(try certificate()["policy"] as? [String: Any])
    let named = try #require(policy["guard"] as? [String: Any])
    // A third of 80 documents: 13 fitted on, 13 held back.
    #expect(named["file"] as? String == "docs.guard.safetensors")
    #expect(named["fitted"] as? Int == 13 && named["held_back"] as? Int == 13)
    #expect(try certificate()["sample_count"] as? Int == 54)
    let share = try #require(try certificate()["outside_share"] as? Double)
    #expect((0...0.35).contains(share))
    #expect(try (certificate()["limits"] as? String)?.contains("its guard finds unlike") == true)

    let applied = ["--certificate", egress.path("docs.certificate.json")]
    let inside = try summarize("1234 5678 9012 3456 7890 1357", applied[0], applied[1])
    #expect(inside.status == 0, "\(inside.errors)")
    let found = try #require(try inside.json()["guard"] as? [String: Any])
    #expect(found["inside"] as? Bool == true)
    #expect(try #require(try inside.json()["average_exit_layer"] as? Double) < 2)
    #expect(!inside.errors.contains("unlike"))

    let outside = try summarize(Self.foreign, applied[0], applied[1])
    let verdict = try #require(try outside.json()["guard"] as? [String: Any])
    #expect(verdict["inside"] as? Bool == false)
    #expect(try #require(verdict["p_value"] as? Double) == 1.0 / 14)
    #expect(
      outside.errors.contains(
        "is unlike the documents that the certificate was made with (p = 0.071): decoded at full"))
    #expect(try outside.json()["average_exit_layer"] as? Double == 2)
    let plain = try summarize(Self.foreign)
    #expect(try outside.json()["text"] as? String == plain.json()["text"] as? String)
    #expect(try plain.json()["guard"] == nil)

    // A batch says the same of each.
    let input = try egress.folder.write(
      "in.jsonl",
      #"{"id": 1, "document": "1234 5678 9012 3456 7890 1357"}"# + "\n"
        + #"{"id": 2, "document": "\#(Self.foreign)"}"# + "\n")
    let batch = try summarize(
      "", "--input", input, "--output", egress.path("out.jsonl"), applied[0], applied[1])
    #expect(batch.status == 0, "\(batch.errors)")
    #expect(batch.errors.contains("document 2 is unlike") && !batch.errors.contains("document 1 is"))
    let lines = try String(contentsOfFile: egress.path("out.jsonl"), encoding: .utf8).split(separator: "\n")
    #expect(lines[0].contains(#""inside":true"#) && lines[1].contains(#""inside":false"#))

    let evaluated = try egress.run([
      "evaluate", "--model", model, "--data", input, "--risk", "consistency", "--max-tokens", "6",
      "--certificate", egress.path("docs.certificate.json"),
    ])
    #expect(
      evaluated.text.contains("outside      50.0 % at full depth"), "\(evaluated.text)\(evaluated.errors)")
  }

  @Test func `a guard that is missing, cut or another's is refused`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let file = egress.path("docs.guard.safetensors")
    let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
    func refusal() throws -> String {
      let result = try summarize("1 2 3", "--certificate", egress.path("docs.certificate.json"))
      #expect(result.status == 1 && result.output.isEmpty)
      return result.errors
    }
    try egress.folder.write("docs.guard.safetensors", Array(bytes.prefix(bytes.count / 2)))
    #expect(try refusal().contains("docs.guard.safetensors"))
    try FileManager.default.removeItem(atPath: file)
    #expect(
      try refusal().contains(
        "the certificate's guard is not there; it has to lie beside the certificate as docs.guard"))
    // Of the same model, but of other documents.
    let others = try writeDocuments("others.jsonl", count: 70)
    #expect(try calibrate(others).status == 0)
    try FileManager.default.copyItem(atPath: egress.path("others.guard.safetensors"), toPath: file)
    #expect(try refusal().contains("not the guard that the certificate was made with"))
    // Edited.
    var edited = bytes
    let header = Int(bytes[0]) | Int(bytes[1]) << 8
    edited[8 + header + 4 * 64] ^= 0x40
    try egress.folder.write("docs.guard.safetensors", edited)
    #expect(try refusal().contains("guard"))
  }

  @Test func `the guard's documents are chosen, and few documents make none`() throws {
    let data = try writeDocuments(count: 40)
    let few = try calibrate(data)
    #expect(few.status == 0 && few.errors.contains("no guard: 40 documents are few"), "\(few.errors)")
    #expect(try certificate()["outside_share"] is NSNull)

    let asked = try calibrate(data, "--guard-documents", "16", "--output", egress.path("asked"))
    #expect(asked.status == 0, "\(asked.errors)")
    #expect(try certificate("asked.certificate.json")["sample_count"] as? Int == 24)
    let tooFew = try calibrate(data, "--guard-documents", "12", "--output", egress.path("few"))
    #expect(
      tooFew.status == 1 && tooFew.errors.contains("8 documents to fit and as many held back, found 6 and 6"))
    let all = try calibrate(data, "--guard-documents", "40", "--output", egress.path("all"))
    #expect(all.status == 1 && all.errors.contains("the guard takes 40 documents, and there are 40"))
    let none = try calibrate(data, "--no-guard", "--output", egress.path("none"))
    #expect(none.status == 0 && !none.errors.contains("no guard"))

    let others = try writeDocuments("others.jsonl", count: 30)
    let apart = try calibrate(data, "--guard-data", others, "--output", egress.path("apart"))
    #expect(apart.status == 0, "\(apart.errors)")
    #expect(try certificate("apart.certificate.json")["sample_count"] as? Int == 40)

    let equal = try egress.folder.write(
      "equal.jsonl",
      (0..<60).map { #"{"id": \#($0), "document": "the same", "references": ["a"]}"# }.joined(separator: "\n")
    )
    let refused = try calibrate(equal)
    #expect(refused.status == 1 && refused.errors.contains("the documents of the guard are all equal"))
    for wrong in [["--no-guard", "--guard-documents", "20"], ["--guard-documents", "0"]] {
      #expect(try egress.run(["calibrate", "--data", data] + wrong).status == 64)
    }
    #expect(try egress.run(["calibrate", "table.csv", "--no-guard", "--epsilon", "0.1"]).status == 64)
  }

  @Test func `a guard keeps its documents when more come`() throws {
    let data = try writeDocuments()
    let first = try calibrate(data, "--limit", "62", "--bound", "anytime", "--rule", "ucb")
    #expect([0, 3].contains(first.status), "\(first.errors)")
    let before = try Data(contentsOf: URL(fileURLWithPath: egress.path("docs.guard.safetensors")))
    let second = try calibrate(data, "--bound", "anytime", "--rule", "ucb")
    #expect([0, 3].contains(second.status), "\(second.errors)")
    #expect(second.errors.contains("has 42 of 60 documents already"), "\(second.errors)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: egress.path("docs.guard.safetensors"))) == before)
  }
}
