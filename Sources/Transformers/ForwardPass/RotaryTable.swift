import Checkpoints
import Foundation

/// The angles of rotary position embedding (Su et al., "RoFormer", 2021): pair i of a head turns by
/// position · frequency(i), frequency(i) = base^(−2i/d), stretched as the configuration says.
struct RotaryTable: Sendable {
  /// One frequency per pair, in double precision: positions reach 2^24.
  let frequencies: [Double]

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
    frequencies = (0..<dimension / 2).map { pair in
      let plain = pow(base, -2 * Double(pair) / Double(dimension))
      switch configuration.rotaryScaling {
      case .none: return plain
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

  /// Writes cosines and sines of one position, `frequencies.count` of each.
  func fill(position: Int, cosines: UnsafeMutablePointer<Float>, sines: UnsafeMutablePointer<Float>) {
    for (pair, frequency) in frequencies.enumerated() {
      let angle = Double(position) * frequency
      cosines[pair] = Float(cos(angle))
      sines[pair] = Float(sin(angle))
    }
  }
}
