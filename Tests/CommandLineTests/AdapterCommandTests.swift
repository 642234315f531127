import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite struct AdapterCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  /// Writes an adapter for the model's first value projection, and tells its directory.
  private func writeAdapter(_ name: String, rows: Int = 32, layer: Int = 0) throws -> String {
    let path = egress.folder.path + "/" + name
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try #"{"peft_type": "LORA", "r": 2, "lora_alpha": 64, "base_model_name_or_path": "tiny"}"#.write(
      toFile: path + "/adapter_config.json", atomically: true, encoding: .utf8)
    let module = "base_model.model.model.layers.\(layer).self_attn.v_proj"
    var random = SplitMix64(seed: 9)
    func numbers(_ count: Int) -> [Float] { (0..<count).map { _ in .random(in: -1...1, using: &random) } }
    try TensorFile.write(
      [
        .init(name: module + ".lora_A.weight", shape: [2, 64], values: numbers(128)),
        .init(name: module + ".lora_B.weight", shape: [rows, 2], values: numbers(2 * rows)),
      ], to: path + "/adapter_model.safetensors")
    return path
  }

  private func perplexity(_ options: [String]) throws -> Double {
    let result = try egress.run(
      ["score", "--model", model, "--format", "json"] + options, input: "abcabcabd")
    return try #require(try result.json()["perplexity"] as? Double, "\(result.errors)")
  }

  @Test func `an adapter changes what the model computes`() throws {
    let adapter = try writeAdapter("adapter")
    let plain = try perplexity([])
    let adapted = try perplexity(["--adapter", adapter])
    #expect(abs(plain - adapted) > 0.01)
    #expect(try perplexity(["--adapter", adapter, "--compute", "float32"]) != adapted)
  }

  @Test func `what belongs to the model as it is does not go with it`() throws {
    let adapter = try writeAdapter("adapter")
    let documents = (0..<12).map { #"{"id": \#($0), "document": "text \#($0 * 7919)"}"# }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let heads = egress.folder.path + "/heads.safetensors"
    let fitted = try egress.run([
      "fit-exits", "--model", model, "--data", data, "--exit-layers", "1", "--max-tokens", "8", "--output",
      heads,
    ])
    try #require(fitted.status == 0, "\(fitted.errors)")
    expectRefusal(
      try egress.run([
        "generate", "--model", model, "--adapter", adapter, "--exit-heads", heads, "--exit-threshold", "0.5",
        "a",
      ]), status: 1, saying: "heads")
  }

  @Test func `a certificate of the adapted model is for it, and for no other`() throws {
    let adapter = try writeAdapter("adapter")
    let documents = (0..<12).map { #"{"id": \#($0), "document": "text \#($0 * 7919)"}"# }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let made = try egress.run([
      "calibrate", "--model", model, "--adapter", adapter, "--data", data, "--max-tokens", "6",
      "--exit-layers", "1",
      "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99",
    ])
    try #require(made.status == 0, "\(made.errors)")
    let certificate = egress.folder.path + "/docs.certificate.json"
    let plain = ["summarize", "--model", model, "--max-tokens", "6", "--certificate", certificate]
    expectRefusal(try egress.run(plain, input: "abc"), status: 1, saying: "docs.certificate.json")
    let adapted = try egress.run(plain + ["--adapter", adapter], input: "abc")
    #expect(adapted.status == 0, "\(adapted.errors)")
    expectRefusal(
      try egress.run(["calibrate", "--adapter", adapter, "table.csv", "--epsilon", "0.1"]), status: 64,
      saying: "--adapter has no effect without --data")
  }

  @Test func `an adapter of another shape, of more layers, or that is none is refused in one sentence`()
    throws
  {
    for (adapter, message) in [
      (try writeAdapter("wide", rows: 48), "expected an update of 32 × 64, as Tiny has it, found 48 × 64"),
      (try writeAdapter("deep", layer: 7), "expected only matrices that Tiny has"),
      (egress.folder.path, "adapter_config.json: expected a readable file, found no such file"),
    ] {
      expectRefusal(
        try egress.run(["generate", "--model", model, "--adapter", adapter, "a"]), status: 1, saying: message)
    }
  }
}
