import FileFormats

/// A low-rank adapter (LoRA; Hu et al., 2021): a directory with `adapter_config.json` and `adapter_model.safetensors`,
/// as the PEFT library writes it, or a GGUF file that llama.cpp's converter made of one.
///
/// Each matrix *W* that it names becomes *W* + *s* · *B* · *A*, with *A* of (rank, columns), *B* of (rows, rank) and
/// the scale *s* = alpha / rank.
public struct LowRankAdapter: Sendable {
  /// The directory or file.
  public let path: String
  /// How tensors are named, and in which order the rows of rotated heads lie.
  let kind: Checkpoint.Kind
  /// The family that a GGUF file says it is of.
  let architecture: String?
  /// What the configuration says it was trained on; `nil` where it does not.
  public let baseName: String?
  /// By the name of the module in the model's class, such as `model.layers.0.self_attn.q_proj`, or by GGUF's of the
  /// matrix.
  let updates: [String: Update]

  /// What is added to one matrix.
  struct Update: Sendable {
    /// (rank, columns)
    var inner: MappedTensor
    /// (rows, rank)
    var outer: MappedTensor
    var scale: Float
  }

  /// Opens an adapter; its tensors stay in the mapped file until they are used.
  ///
  /// - Throws: ``CheckpointError`` for what is missing or damaged, other methods than LoRA, and variants of it that
  ///   change more than matrices: DoRA, biases, modules that were trained whole, embeddings.
  public init(path: String) throws(CheckpointError) {
    if path.hasSuffix(".gguf"), !MappedFile.isDirectory(path) {
      self = try LowRankAdapter(gguf: GGUFFile(MappedFile(path: path)), path: path)
    } else {
      self = try LowRankAdapter(directory: path)
    }
  }

  private init(directory path: String) throws(CheckpointError) {
    let directory = path.hasSuffix("/") ? path : path + "/"
    let settings = try Settings(MappedFile(path: directory + "adapter_config.json"))
    let stored = try TensorFile.open(directory + "adapter_model.safetensors")
    var halves: [String: (inner: MappedTensor?, outer: MappedTensor?)] = [:]
    for (name, tensor) in stored.sorted(by: { $0.key < $1.key }) {
      guard let (module, isInner) = Self.place(of: name) else {
        throw .unsupported(
          tensor.path, "tensor \(CheckpointError.printable(name))",
          expected: "only names that end in .lora_A.weight and .lora_B.weight", found: "another")
      }
      if isInner {
        halves[module, default: (nil, nil)].inner = tensor
      } else {
        halves[module, default: (nil, nil)].outer = tensor
      }
    }
    let file = directory + "adapter_model.safetensors"
    self.path = path
    kind = .huggingFace
    architecture = nil
    baseName = settings.baseName
    updates = try Self.updates(halves, file: file) { module, rank throws(CheckpointError) in
      try settings.scale(of: module, rank: rank)
    }
  }

  private init(gguf file: GGUFFile, path: String) throws(CheckpointError) {
    func text(_ key: String) -> String? { file.metadata[key]?.string }
    for (key, wanted) in [("general.type", "adapter"), ("adapter.type", "lora")] where text(key) != wanted {
      throw .unsupported(
        path, "metadata key \(key)", expected: "\"\(wanted)\"",
        found: text(key).map { "\"\(CheckpointError.printable($0))\"" } ?? "no such text")
    }
    if file.metadata["adapter.alora.invocation_tokens"] != nil {
      throw .unsupported(
        path, "metadata key adapter.alora.invocation_tokens", expected: "no such key", found: "it")
    }
    guard let alpha = file.metadata["adapter.lora.alpha"]?.float, alpha.isFinite else {
      throw .damaged(path, "metadata key adapter.lora.alpha", expected: "a finite number", found: "none")
    }
    var halves: [String: (inner: MappedTensor?, outer: MappedTensor?)] = [:]
    for (name, tensor) in file.tensors.sorted(by: { $0.key < $1.key }) {
      if name.hasSuffix(".lora_a") {
        halves[String(name.dropLast(7)), default: (nil, nil)].inner = tensor
      } else if name.hasSuffix(".lora_b") {
        halves[String(name.dropLast(7)), default: (nil, nil)].outer = tensor
      } else {
        throw .unsupported(
          path, "tensor \(CheckpointError.printable(name))",
          expected: "only names that end in .lora_a and .lora_b", found: "another")
      }
    }
    self.path = path
    kind = .gguf
    architecture = text("general.architecture")
    baseName = text("general.base_model.0.name")
    // The format's own reader takes 0 for no scale.
    updates = try Self.updates(halves, file: path) { _, rank in alpha == 0 ? 1 : alpha / Float(rank) }
  }

  private static func updates(
    _ halves: [String: (inner: MappedTensor?, outer: MappedTensor?)], file: String,
    scale: (_ module: String, _ rank: Int) throws(CheckpointError) -> Float
  ) throws(CheckpointError) -> [String: Update] {
    var updates: [String: Update] = [:]
    for (module, pair) in halves.sorted(by: { $0.key < $1.key }) {
      let field = "tensor \(CheckpointError.printable(module))"
      guard let inner = pair.inner, let outer = pair.outer else {
        throw CheckpointError(
          kind: .tensor, file: file, field: field, expected: "lora_A and lora_B", found: "one of them")
      }
      guard inner.shape.count == 2, outer.shape.count == 2, inner.shape[0] == outer.shape[1],
        inner.shape[0] > 0
      else {
        throw CheckpointError(
          kind: .tensor, file: file, field: field, expected: "matrices of one rank",
          found: "\(MappedTensor.describe(inner.shape)) and \(MappedTensor.describe(outer.shape))")
      }
      updates[module] = Update(inner: inner, outer: outer, scale: try scale(module, inner.shape[0]))
    }
    guard !updates.isEmpty else {
      throw .damaged(file, "", expected: "at least one pair of matrices", found: "none")
    }
    return updates
  }

  /// The module that a tensor belongs to, and whether it is *A*.
  private static func place(of name: String) -> (module: String, isInner: Bool)? {
    let prefix = "base_model.model."
    for (suffix, isInner) in [(".lora_A.weight", true), (".lora_B.weight", false)] {
      if name.hasPrefix(prefix), name.hasSuffix(suffix),
        name.utf8.count > prefix.utf8.count + suffix.utf8.count
      {
        return (String(name.dropFirst(prefix.count).dropLast(suffix.count)), isInner)
      }
    }
    return nil
  }
}

extension LowRankAdapter {
  /// `adapter_config.json`.
  private struct Settings {
    private var file: String
    private var stored: Stored

    var baseName: String? { stored.base_model_name_or_path }

    /// The spelling of the file.
    private struct Stored: Decodable {
      /// How the matrices begin: `true`, or the name of a way.
      enum Beginning: Decodable {
        case usual
        case named(String)

        init(from decoder: any Decoder) throws {
          let value = try decoder.singleValueContainer()
          if (try? value.decode(Bool.self)) != nil {
            self = .usual
          } else {
            self = .named(try value.decode(String.self))
          }
        }
      }

      /// A value that is not null, whatever it is.
      struct Present: Decodable {
        init(from decoder: any Decoder) throws {}
      }

      var peft_type: String
      var r: Int
      var lora_alpha: Float
      var base_model_name_or_path: String?
      var use_rslora: Bool?
      var use_dora: Bool?
      var lora_bias: Bool?
      var fan_in_fan_out: Bool?
      var bias: String?
      var modules_to_save: [String]?
      var rank_pattern: [String: Int]?
      var alpha_pattern: [String: Float]?
      var init_lora_weights: Beginning?
      var use_qalora: Bool?
      var use_bdlora: Present?
      var layer_replication: Present?
      var alora_invocation_tokens: Present?
      var trainable_token_indices: Present?
      var arrow_config: Present?
      var kasa_config: Present?
      var velora_config: Present?
      var monteclora_config: Present?
    }

    private static let byteLimit = 1 << 20

    init(_ file: MappedFile) throws(CheckpointError) {
      guard file.bytes.count <= Self.byteLimit else {
        throw .damaged(
          file.path, "", expected: "at most \(Self.byteLimit) bytes", found: "\(file.bytes.count)")
      }
      self.file = file.path
      stored = try JSONStructure.decode(Stored.self, from: file.bytes, file: file.path, field: "")
      func unsupported(_ field: String, _ expected: String, _ found: String) -> CheckpointError {
        .unsupported(file.path, field, expected: expected, found: CheckpointError.printable(found))
      }
      guard stored.peft_type == "LORA" else { throw unsupported("peft_type", "LORA", stored.peft_type) }
      for (field, value) in [
        ("use_dora", stored.use_dora), ("lora_bias", stored.lora_bias),
        ("fan_in_fan_out", stored.fan_in_fan_out), ("use_qalora", stored.use_qalora),
      ] where value ?? false {
        throw unsupported(field, "false", "true")
      }
      if let bias = stored.bias, bias != "none" { throw unsupported("bias", "none", bias) }
      if let module = stored.modules_to_save?.first { throw unsupported("modules_to_save", "none", module) }
      for (field, value) in [
        ("use_bdlora", stored.use_bdlora), ("layer_replication", stored.layer_replication),
        ("alora_invocation_tokens", stored.alora_invocation_tokens),
        ("trainable_token_indices", stored.trainable_token_indices), ("arrow_config", stored.arrow_config),
        ("kasa_config", stored.kasa_config), ("velora_config", stored.velora_config),
        ("monteclora_config", stored.monteclora_config),
      ] where value != nil {
        throw unsupported(field, "null", "a value")
      }
      // These move a part of the base's own weights into the adapter, which then fits the changed base alone.
      if case .named(let way) = stored.init_lora_weights, !["gaussian", "eva", "orthogonal"].contains(way) {
        throw unsupported("init_lora_weights", "a way that leaves the model's weights as they are", way)
      }
      for (field, isValid, found) in [
        ("r", stored.r > 0, "\(stored.r)"),
        ("lora_alpha", stored.lora_alpha.isFinite, "\(stored.lora_alpha)"),
      ] where !isValid {
        throw CheckpointError.damaged(file.path, field, expected: "a number above 0", found: found)
      }
    }

    /// The factor of a module's update.
    func scale(of module: String, rank: Int) throws(CheckpointError) -> Float {
      let stated = try value(of: module, in: stored.rank_pattern, "rank_pattern") ?? stored.r
      guard stated == rank else {
        throw .damaged(
          file, "r", expected: "\(rank), the rank of \(CheckpointError.printable(module))", found: "\(stated)"
        )
      }
      let alpha = try value(of: module, in: stored.alpha_pattern, "alpha_pattern") ?? stored.lora_alpha
      guard alpha.isFinite else {
        throw .damaged(file, "alpha_pattern", expected: "finite numbers", found: "\(alpha)")
      }
      return alpha / (stored.use_rslora ?? false ? Float(rank).squareRoot() : Float(rank))
    }

    /// What a pattern says about a module. Its keys are the ends of names; they may be regular expressions for PEFT.
    private func value<Value>(
      of module: String, in pattern: [String: Value]?, _ field: String
    ) throws(CheckpointError) -> Value? {
      var found: Value?
      for (key, value) in (pattern ?? [:]).sorted(by: { $0.key.utf8.count < $1.key.utf8.count }) {
        guard key.utf8.allSatisfy(Self.isPlain) else {
          throw .unsupported(
            file, field, expected: "names of modules", found: CheckpointError.printable(key))
        }
        if module == key || module.hasSuffix("." + key) { found = value }
      }
      return found
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
        true
      default: false
      }
    }
  }
}
