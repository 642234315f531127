import Checkpoints
import RealModule

/// The angles of rotary position embedding (Su et al., "RoFormer", 2021): pair i of a head turns by
/// position · frequency(i), frequency(i) = base^(−2i/d), stretched as the configuration says.
struct RotaryTable: Sendable {
  /// One frequency per pair, in double precision: positions reach 2^24.
  let frequencies: [Double]
  /// Those of sequences with room for more than the original context, where they are others.
  private let longer: Longer?
  /// Cosines and sines are multiplied by it.
  private let magnitude: Double

  private enum Longer: Sendable {
    /// LongRoPE's second list.
    case list([Double], beyond: Int)
    /// The base grows with the room.
    case dynamic(base: Double, factor: Double, dimension: Int, beyond: Int)
  }

  /// The frequencies of layers with a base of their own, which are not stretched.
  init(_ configuration: DecoderConfiguration, base: Float) {
    var local = configuration
    local.rotaryBase = base
    local.rotaryScaling = .none
    self.init(local)
  }

  init(_ configuration: DecoderConfiguration) {
    let dimension = configuration.rotaryDimension
    let base = Double(configuration.rotaryBase)
    func frequency(_ pair: Int) -> Double { Double.pow(base, -2 * Double(pair) / Double(dimension)) }
    func divided(_ divisors: [Float]) -> [Double] {
      (0..<dimension / 2).map { $0 < divisors.count ? frequency($0) / Double(divisors[$0]) : frequency($0) }
    }
    switch configuration.rotaryScaling {
    case .longRope(_, let long, let context, let factor):
      longer = .list(divided(long), beyond: context)
      magnitude = Double(factor)
    case .dynamic(let factor, let context):
      longer = .dynamic(base: base, factor: Double(factor), dimension: dimension, beyond: context)
      magnitude = 1
    case .yarn(_, _, _, _, let factor, _):
      longer = nil
      magnitude = Double(factor)
    default:
      longer = nil
      magnitude = 1
    }
    frequencies = (0..<dimension / 2).map { pair in
      let plain = frequency(pair)
      switch configuration.rotaryScaling {
      case .none, .dynamic: return plain
      case .longRope(let short, _, _, _): return pair < short.count ? plain / Double(short[pair]) : plain
      case .yarn(let factor, let context, let fast, let slow, _, let rounds):
        // The pair whose angle turns so many times within the original context.
        func pairTurning(_ times: Float) -> Double {
          Double(dimension) * Double.log(Double(context) / (Double(times) * 2 * Double.pi))
            / (2 * Double.log(base))
        }
        var (low, high) = (pairTurning(fast), pairTurning(slow))
        if rounds { (low, high) = (low.rounded(.down), high.rounded(.up)) }
        low = max(low, 0)
        high = min(high, Double(dimension - 1))
        if low == high { high += 0.001 }
        let share = min(max((Double(pair) - low) / (high - low), 0), 1)
        return plain / Double(factor) * share + plain * (1 - share)
      case .linear(let factor): return plain / Double(factor)
      case .divisors(let divisors): return pair < divisors.count ? plain / Double(divisors[pair]) : plain
      case .llama3(let factor, let low, let high, let context):
        let wavelength = 2 * Double.pi / plain
        if wavelength < Double(context) / Double(high) { return plain }
        if wavelength > Double(context) / Double(low) { return plain / Double(factor) }
        let share = (Double(context) / wavelength - Double(low)) / Double(high - low)
        return (1 - share) * plain / Double(factor) + share * plain
      }
    }
  }

  /// The frequencies of a sequence with room for so many tokens. All its keys must be turned alike, so that it is the
  /// room that decides, not the tokens so far.
  func frequencies(room: Int) -> [Double] {
    switch longer {
    case .list(let list, let context) where room > context: return list
    case .dynamic(let base, let factor, let dimension, let context) where room > context:
      let growth = factor * Double(room) / Double(context) - (factor - 1)
      let grown = base * Double.pow(growth, Double(dimension) / Double(dimension - 2))
      return frequencies.indices.map { Double.pow(grown, -2 * Double($0) / Double(dimension)) }
    default: return frequencies
    }
  }

  /// Writes cosines and sines of one position, `frequencies.count` of each.
  ///
  /// - Parameter room: Tokens that the sequence may have in all.
  func fill(
    position: Int, room: Int, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>
  ) {
    for (pair, frequency) in (longer == nil ? frequencies : frequencies(room: room)).enumerated() {
      let angle = Double(position) * frequency
      cosines[pair] = Float(Double.cos(angle) * magnitude)
      sines[pair] = Float(Double.sin(angle) * magnitude)
    }
  }
}
