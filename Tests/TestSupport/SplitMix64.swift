import Generation

/// The generator that tokens are drawn with, so that random tests repeat exactly.
package typealias SplitMix64 = SamplingGenerator
