import Checkpoints
import TestSupport
import Testing

@Suite("GGUF patches")
struct GGUFPatchTests {
  let directory: TemporaryDirectory
  let base: GGUFBuilder

  init() throws {
    directory = try TemporaryDirectory()
    base = TinyDecoder().gguf()
  }

  /// A file of other bytes for the tensors named.
  func patch(_ names: [String]) -> GGUFBuilder {
    var patch = GGUFBuilder()
    patch.tensors = base.tensors.filter { names.contains($0.name) }.reversed()
    for index in patch.tensors.indices {
      for byte in patch.tensors[index].bytes.indices { patch.tensors[index].bytes[byte] ^= 0x11 }
    }
    return patch
  }

  func apply(_ patch: GGUFBuilder) throws -> [UInt8] {
    var result: [UInt8] = []
    try GGUFPatch.apply(
      try directory.write("patch.gguf", patch.build()), to: try directory.write("base.gguf", base.build())
    ) { result += $0 }
    return result
  }

  @Test(
    "The result is the file that has the other tensors in their place",
    arguments: [
      [], ["blk.0.ffn_up.weight"],
      ["token_embd.weight", "blk.1.attn_q.weight", "blk.0.attn_q.weight", "output_norm.weight"],
    ])
  func result(_ names: [String]) throws {
    var expected = base
    for tensor in patch(names).tensors { expected.editTensor(tensor.name) { $0.bytes = tensor.bytes } }
    #expect(
      expected.tensors.filter { tensor in base.tensors.allSatisfy { $0.bytes != tensor.bytes } }.count
        == names.count)
    #expect(try apply(patch(names)) == expected.build())
  }

  @Test(
    "A tensor that the base has not, or has in another shape or format, is refused before anything is written"
  )
  func mismatches() throws {
    func refusal(_ edit: (inout GGUFBuilder.Tensor) -> Void) throws -> CheckpointError? {
      var patch = patch(["blk.0.ffn_up.weight", "blk.1.attn_q.weight"])
      patch.editTensor("blk.1.attn_q.weight", edit)
      var written = 0
      let paths = [
        try directory.write("patch.gguf", patch.build()), try directory.write("base.gguf", base.build()),
      ]
      let error = #expect(throws: CheckpointError.self) {
        try GGUFPatch.apply(paths[0], to: paths[1]) { written += $0.count }
      }
      #expect(written == 0)
      return error
    }
    #expect(try refusal { $0.name = "blk.9.attn_q.weight" }?.found == "none of that name")
    let shape = try refusal { tensor in
      tensor.dimensions = [64, 32]
      tensor.bytes.removeLast(tensor.bytes.count / 2)
    }
    #expect(shape?.field == "tensor blk.1.attn_q.weight")
    #expect(shape?.found.hasPrefix("[32, 64]") == true)
    let format = try refusal { tensor in
      tensor.type = 1
      tensor.bytes = Array(repeating: 0, count: 64 * 64 * 2)
    }
    #expect(format?.found == "[64, 64] in F16")
  }

  @Test("Damaged files are refused")
  func damage() throws {
    let whole = patch(["blk.0.ffn_up.weight"]).build()
    let base = try directory.write("base.gguf", base.build())
    for length in stride(from: 0, to: whole.count - 1, by: 97) {
      let path = try directory.write("cut.gguf", Array(whole[..<length]))
      #expect(throws: CheckpointError.self) { try GGUFPatch.apply(path, to: base) { _ in } }
    }
  }
}
