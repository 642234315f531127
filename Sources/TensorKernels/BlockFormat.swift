/// How a stored tensor encodes its numbers.
///
/// The raw values are the type numbers of the GGUF format. A *block* is the smallest group of consecutive
/// weights that can be decoded alone; each row of a matrix holds a whole number of blocks.
public enum BlockFormat: UInt32, Sendable, CaseIterable {
  /// IEEE 754, 32 bits.
  case f32 = 0
  /// IEEE 754, 16 bits.
  case f16 = 1
  /// 4 bits and a scale: 18 bytes for 32 weights.
  case q4_0 = 2
  /// 4 bits, a scale and a minimum: 20 bytes for 32 weights.
  case q4_1 = 3
  /// 5 bits and a scale: 22 bytes for 32 weights.
  case q5_0 = 6
  /// 5 bits, a scale and a minimum: 24 bytes for 32 weights.
  case q5_1 = 7
  /// 8 bits and a scale: 34 bytes for 32 weights.
  case q8_0 = 8
  /// 2 bits, scales and minima of 16 weights each: 84 bytes for 256 weights.
  case q2_K = 10
  /// 3 bits and scales of 16 weights each: 110 bytes for 256 weights.
  case q3_K = 11
  /// 4 bits, scales and minima of 32 weights each: 144 bytes for 256 weights.
  case q4_K = 12
  /// 5 bits, scales and minima of 32 weights each: 176 bytes for 256 weights.
  case q5_K = 13
  /// 6 bits and scales of 16 weights each: 210 bytes for 256 weights.
  case q6_K = 14
  /// 4 bits that choose among 16 uneven levels, and a scale: 18 bytes for 32 weights.
  case iq4_NL = 20
  /// The same levels, with scales of 32 weights each: 136 bytes for 256 weights.
  case iq4_XS = 23
  /// The upper 16 bits of a 32-bit number.
  case bf16 = 30
  /// 4-bit floating point and an exponent of 8 bits: 17 bytes for 32 weights (OCP Microscaling).
  case mxfp4 = 39

  /// Weights in one block.
  public var blockLength: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_NL, .mxfp4: 32
    case .q2_K, .q3_K, .q4_K, .q5_K, .q6_K, .iq4_XS: 256
    }
  }

  /// Whether weights are numbers of their own, without a scale that they share.
  public var isUnquantized: Bool { blockLength == 1 }

  /// Bytes of one block.
  public var bytesPerBlock: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .q4_0: 18
    case .q4_1: 20
    case .q5_0: 22
    case .q5_1: 24
    case .q8_0: 34
    case .q2_K: 84
    case .q3_K: 110
    case .q4_K: 144
    case .q5_K: 176
    case .q6_K: 210
    case .iq4_NL: 18
    case .iq4_XS: 136
    case .mxfp4: 17
    }
  }

  /// The name the formats are known by, such as `Q4_1`.
  public var name: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .bf16: "BF16"
    case .q4_0: "Q4_0"
    case .q4_1: "Q4_1"
    case .q5_0: "Q5_0"
    case .q5_1: "Q5_1"
    case .q8_0: "Q8_0"
    case .q2_K: "Q2_K"
    case .q3_K: "Q3_K"
    case .q4_K: "Q4_K"
    case .q5_K: "Q5_K"
    case .q6_K: "Q6_K"
    case .iq4_NL: "IQ4_NL"
    case .iq4_XS: "IQ4_XS"
    case .mxfp4: "MXFP4"
    }
  }
}
