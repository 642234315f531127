import Foundation
import RealModule

extension DecoderConfiguration {
  /// What YaRN multiplies cosines and sines by: 0.1 ln(factor) + 1.
  static func yarnMagnitude(_ factor: Float, scale: Float = 1) -> Float {
    factor <= 1 ? 1 : 0.1 * scale * Float(Double.log(Double(factor))) + 1
  }
}

/// What `config.json` says of layers: which see a window, which have no positions, and how angles are stretched.
extension HuggingFaceConfiguration {
  func setWindow(
    _ configuration: inout DecoderConfiguration, _ description: FamilyDescription, _ path: String
  ) throws(CheckpointError) {
    if let layer_types {
      guard layer_types.count == configuration.layerCount else {
        throw .damaged(
          path, "layer_types", expected: "\(configuration.layerCount) of them", found: "\(layer_types.count)")
      }
      for type in layer_types where !["full_attention", "sliding_attention"].contains(type) {
        throw .unsupported(
          path, "layer_types", expected: "full_attention or sliding_attention",
          found: "\"\(CheckpointError.printable(type))\"")
      }
    }
    let hasRule = description.windowPeriod > 0 || description.windowsEveryLayer
    // Where the family has no rule of its own, a switch says whether the window stated is used.
    guard hasRule || use_sliding_window == true else {
      if layer_types?.contains("sliding_attention") == true {
        throw .unsupported(
          path, "layer_types", expected: "use_sliding_window with sliding_attention", found: "no such key")
      }
      return
    }
    guard let size = sliding_window ?? (description.windowPeriod > 0 ? 4096 : nil) else { return }
    var layers: Set<Int>
    if let layer_types {
      layers = Set(layer_types.indices.filter { layer_types[$0] == "sliding_attention" })
    } else if hasRule {
      var description = description
      if let sliding_window_pattern {
        description.windowPeriod = try Self.whole(sliding_window_pattern, "sliding_window_pattern", path)
      }
      layers = configuration.windowedLayers(description)
    } else {
      let first = try Self.whole(max_window_layers ?? 0, "max_window_layers", path)
      layers = Set(configuration.layerRange.filter { $0 >= first })
    }
    if layers.isEmpty, !hasRule { return }
    configuration.slidingWindow = DecoderConfiguration.SlidingWindow(
      size: try Self.whole(size, "sliding_window", path), layers: layers,
      rotaryBase: configuration.family == .gemma3 ? Float(localRotaryBase) : nil)
  }

  func setPositionless(_ configuration: inout DecoderConfiguration, _ path: String) throws(CheckpointError) {
    guard configuration.family == .smolLM3 else { return }
    if let no_rope_layers {
      guard no_rope_layers.count == configuration.layerCount else {
        throw .damaged(
          path, "no_rope_layers", expected: "\(configuration.layerCount) of them",
          found: "\(no_rope_layers.count)")
      }
      // A layer of 0 has no positions, one of 1 has them.
      configuration.layersWithoutPositions = Set(no_rope_layers.indices.filter { no_rope_layers[$0] == 0 })
    } else if let no_rope_layer_interval {
      let period = try Self.whole(no_rope_layer_interval, "no_rope_layer_interval", path)
      guard period > 0 else {
        throw .damaged(path, "no_rope_layer_interval", expected: "at least 1", found: "\(period)")
      }
      configuration.layersWithoutPositions = Set(configuration.layerRange.filter { ($0 + 1) % period == 0 })
    }
  }

  /// - Parameters:
  ///   - contextLength: `max_position_embeddings`.
  ///   - dimension: Numbers of a head that are rotated.
  func rotaryScaling(
    _ path: String, contextLength: Int, dimension: Int
  ) throws(CheckpointError) -> DecoderConfiguration.RotaryScaling {
    let field = rope_parameters == nil ? "rope_scaling" : "rope_parameters"
    guard let scaling = rope_parameters?.all ?? rope_scaling else { return .none }
    func required<Value>(_ value: Value?, _ name: String) throws(CheckpointError) -> Value {
      guard let value else {
        throw .damaged(path, "\(field): \(name)", expected: "a value", found: "no such key")
      }
      return value
    }
    func factor() throws(CheckpointError) -> Float { Float(try required(scaling.factor, "factor")) }
    func originalContext(default fallback: Int?) throws(CheckpointError) -> Int {
      let name = "original_max_position_embeddings"
      let stated = scaling.original_max_position_embeddings ?? original_max_position_embeddings
      return try Self.whole(
        try required(stated ?? fallback.map { Double($0) }, name), "\(field): \(name)", path)
    }
    switch scaling.rope_type ?? scaling.type {
    case "default", nil: return .none
    case "linear": return .linear(factor: try factor())
    case "dynamic":
      return .dynamic(factor: try factor(), originalContext: contextLength)
    case "llama3":
      return .llama3(
        factor: try factor(),
        lowFrequencyFactor: Float(try required(scaling.low_freq_factor, "low_freq_factor")),
        highFrequencyFactor: Float(try required(scaling.high_freq_factor, "high_freq_factor")),
        originalContext: try originalContext(default: nil))
    case "yarn":
      let factor = try factor()
      let magnitude: Float
      if let stated = scaling.attention_factor {
        magnitude = Float(stated)
      } else if let scale = scaling.mscale, let all = scaling.mscale_all_dim, scale != 0, all != 0 {
        magnitude =
          DecoderConfiguration.yarnMagnitude(factor, scale: Float(scale))
          / DecoderConfiguration.yarnMagnitude(factor, scale: Float(all))
      } else {
        magnitude = DecoderConfiguration.yarnMagnitude(factor)
      }
      return .yarn(
        factor: factor, originalContext: try originalContext(default: contextLength),
        betaFast: Float(scaling.beta_fast ?? 32), betaSlow: Float(scaling.beta_slow ?? 1),
        magnitude: magnitude, roundsRange: scaling.truncate ?? true)
    case "longrope", "su":
      let original = try originalContext(default: contextLength)
      let ratio = original > 0 ? Double(contextLength) / Double(original) : 1
      let own =
        ratio <= 1 || original <= 1 ? 1 : (1 + Double.log(ratio) / Double.log(Double(original))).squareRoot()
      return .longRope(
        short: try required(scaling.short_factor, "short_factor").map { Float($0) },
        long: try required(scaling.long_factor, "long_factor").map { Float($0) }, originalContext: original,
        magnitude: Float(scaling.attention_factor ?? own))
    case let type?:
      throw .unsupported(
        path, "\(field): rope_type", expected: "default, linear, dynamic, llama3, yarn or longrope",
        found: "\"\(CheckpointError.printable(type))\"")
    }
  }
}
