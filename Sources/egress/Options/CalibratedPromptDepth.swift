import ArgumentParser

/// What calibrate is asked for by --prompt-depth.
enum CalibratedPromptDepth: ExpressibleByArgument, CustomStringConvertible, Equatable {
  /// The layer after which prompts stop is what is certified.
  case certified
  /// Prompts stop after one of these layers, and a threshold of exits or of drafts is certified with it.
  case fixed([Int])

  init?(argument: String) {
    // What is no number is refused as a layer that no model has, so that a slip is not taken for another argument.
    self = .fixed(argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 })
  }

  var description: String {
    layers.isEmpty ? "certify a layer" : layers.map(String.init).joined(separator: ",")
  }

  /// Those named.
  var layers: [Int] {
    if case .fixed(let layers) = self { layers } else { [] }
  }
}
