import Checkpoints
import Foundation
import TestSupport
import Testing
import Transformers

/// Low-rank adapters against what the PEFT library computes with them; Tests/Scripts/make_adapter_fixtures.py.
@Suite struct AdapterTests {
  private struct Expected: Decodable {
    var tokens: [Int]
    var logits: [[Float]]
  }

  private static let names = ["llama_bias", "phi3", "qwen3"]

  private static func adapter(_ name: String) throws -> LowRankAdapter {
    try LowRankAdapter(path: FixtureModels.path("adapters/\(name)"))
  }

  @Test(arguments: names, ["", "/model.gguf"])
  func logitsAreThoseOfPEFT(_ name: String, _ file: String) throws {
    let expected = try FixtureModels.expected(Expected.self, "adapters/\(name)")
    let checkpoint = try Checkpoint.open(FixtureModels.path(name) + file)
    let adapted = try checkpoint.merging(Self.adapter(name))
    for compute in [ComputePath.float32, .quantized] {
      let model = try Transformer(checkpoint: adapted, compute: compute, threads: 1)
      let plain = try Transformer(checkpoint: checkpoint, compute: compute, threads: 1)
      let logits = try TransformerTests.logits(model, expected.tokens)
      for (found, reference) in zip(logits, expected.logits) {
        FixtureModels.expect(found, equal: reference, compute: compute, "\(name)\(file)", rounding: 0.12)
      }
      #expect(try TransformerTests.logits(plain, expected.tokens) != logits)
    }
  }

  @Test(arguments: ["", "/model.gguf"])
  func aGGUFFileIsTheSameAdapter(_ file: String) throws {
    let path = try FixtureModels.path("adapters/llama_bias/adapter.gguf")
    let expected = try FixtureModels.expected(Expected.self, "adapters/llama_bias")
    let checkpoint = try Checkpoint.open(FixtureModels.path("llama_bias") + file)
    let adapted = try checkpoint.merging(LowRankAdapter(path: path))
    #expect(adapted.notes == checkpoint.notes)
    let model = try Transformer(checkpoint: adapted, compute: .float32, threads: 1)
    let logits = try TransformerTests.logits(model, expected.tokens)
    for (found, reference) in zip(logits, expected.logits) {
      FixtureModels.expect(found, equal: reference, compute: .float32, "\(file)")
    }
    let other = #expect(throws: CheckpointError.self) {
      try Checkpoint.open(FixtureModels.path("qwen3") + "/model.gguf").merging(LowRankAdapter(path: path))
    }
    #expect(other?.description.contains("general.architecture: expected \"qwen3\", as qwen3 has it") == true)
    // A model is no adapter.
    let noAdapter = #expect(throws: CheckpointError.self) {
      try LowRankAdapter(path: FixtureModels.path("llama_bias") + "/model.gguf")
    }
    #expect(noAdapter?.description.contains("general.type: expected \"adapter\", found no such text") == true)
  }

  @Test("2,000 mutants of a GGUF adapter are merged or refused", .timeLimit(.minutes(10)))
  func mutantsOfGGUF() throws {
    let path = try FixtureModels.path("adapters/llama_bias/adapter.gguf")
    let base = try Checkpoint.open(FixtureModels.path("llama_bias"))
    let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    let directory = try TemporaryDirectory()
    try expectMergedOrRefused(base, seed: 4) { _, random in
      try directory.write("adapter.gguf", Mutation.edit(bytes, upTo: 2_400, using: &random))
    }
  }

  @Test func `an adapter of another model is refused, and one of another name told`() throws {
    let llama = try Checkpoint.open(FixtureModels.path("llama_bias"))
    #expect(try llama.merging(Self.adapter("llama_bias")).notes == llama.notes)
    let shape = #expect(throws: CheckpointError.self) {
      try Checkpoint.open(FixtureModels.path("phi3")).merging(Self.adapter("llama_bias"))
    }
    #expect(
      shape?.description.contains("expected an update of 16 × 32, as phi3 has it, found 32 × 32") == true,
      "\(shape as Any)")
    // Of the same shape, so that only the names tell.
    #expect(try llama.merging(Self.adapter("qwen3")).notes.last?.contains("trained on tiny/qwen3") == true)
    // Its matrices are some that the model lacks.
    let lacks = #expect(throws: CheckpointError.self) {
      try Checkpoint.open(FixtureModels.path("t5")).merging(Self.adapter("llama_bias"))
    }
    #expect(lacks?.description.contains("one that it lacks") == true)
    let renamed = try Self.edited("llama_bias") {
      $0.replacing("\"tiny/llama_bias\"", with: "\"someone/Other-7B\"")
    }
    let notes = try llama.merging(LowRankAdapter(path: renamed.path)).notes
    #expect(notes.last?.contains("trained on someone/Other-7B") == true)
  }

  @Test(arguments: [
    ("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "peft_type: expected LORA, found IA3"),
    ("\"use_dora\": false", "\"use_dora\": true", "use_dora: expected false"),
    ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias: expected none, found all"),
    ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
    ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", "init_lora_weights"),
    ("\"layer_replication\": null", "\"layer_replication\": [[0, 2]]", "layer_replication"),
    ("\"r\": 4", "\"r\": 5", "r: expected 4, the rank of"),
    ("\"r\": 4", "\"r\": -1", "r: expected a number above 0, found -1"),
    ("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_.*\": 2}", "alpha_pattern: expected names of modules"),
    ("\"lora_alpha\": 6", "\"lora_alpha\": \"x\"", "lora_alpha: expected a number"),
  ])
  func whatChangesMoreThanMatricesIsRefused(_ old: String, _ new: String, _ message: String) throws {
    let directory = try Self.edited("llama_bias") {
      #expect($0.contains(old))
      return $0.replacing(old, with: new)
    }
    let error = #expect(throws: CheckpointError.self) { try LowRankAdapter(path: directory.path) }
    #expect(error?.description.contains(message) == true, "\(error as Any)")
  }

  @Test("2,000 mutants are merged or refused", .timeLimit(.minutes(10)))
  func mutants() throws {
    let path = try FixtureModels.path("adapters/llama_bias")
    let base = try Checkpoint.open(FixtureModels.path("llama_bias"))
    let settings = Array(try Data(contentsOf: URL(fileURLWithPath: path + "/adapter_config.json")))
    let tensors = Array(try Data(contentsOf: URL(fileURLWithPath: path + "/adapter_model.safetensors")))
    let header = 8 + Int(tensors[0]) + 256 * Int(tensors[1])
    let directory = try TemporaryDirectory()
    try expectMergedOrRefused(base, seed: 3) { index, random in
      let isOfSettings = index % 2 == 0
      try directory.write(
        "adapter_config.json",
        isOfSettings ? Mutation.editText(settings, upTo: settings.count, using: &random) : settings)
      try directory.write(
        "adapter_model.safetensors",
        isOfSettings
          ? tensors
          : index % 4 == 1
            ? Mutation.edit(tensors, upTo: header, using: &random)
            : Mutation.editText(tensors, upTo: header, using: &random))
      return directory.path
    }
  }

  /// Merges 2,000 mutants, one after the other: of each all tensors can be read, or an error says what is wrong, and
  /// neither is what always happens.
  private func expectMergedOrRefused(
    _ base: Checkpoint, seed: UInt64, writeMutant: (Int, inout SplitMix64) throws -> String
  ) throws {
    var random = SplitMix64(seed: seed)
    var merged = 0
    for index in 0..<2_000 {
      let path = try writeMutant(index, &random)
      do throws(CheckpointError) {
        let checkpoint = try base.merging(LowRankAdapter(path: path))
        for name in checkpoint.tensorNames {
          let tensor = try checkpoint.tensor(name)
          let count = tensor.makeFloats().count
          #expect(count == tensor.elementCount)
        }
        merged += 1
      } catch {
        #expect(!error.description.isEmpty && error.description.utf8.count < 4096)
      }
    }
    #expect((50...1_950).contains(merged), "\(merged) merged")
  }

  /// A copy of an adapter with another configuration.
  private static func edited(_ name: String, _ edit: (String) -> String) throws -> TemporaryDirectory {
    let path = try FixtureModels.path("adapters/\(name)")
    let directory = try TemporaryDirectory()
    let settings = try String(contentsOfFile: path + "/adapter_config.json", encoding: .utf8)
    try directory.write("adapter_config.json", edit(settings))
    let tensors = try Data(contentsOf: URL(fileURLWithPath: path + "/adapter_model.safetensors"))
    try directory.write("adapter_model.safetensors", Array(tensors))
    return directory
  }
}
