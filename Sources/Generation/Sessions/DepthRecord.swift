/// The confidence of a token after one exit layer.
public struct ExitCheck: Sendable, Equatable {
  /// The exit layer, counted from 1.
  public var layer: Int
  /// In [0, 1).
  public var confidence: Double

  /// Puts a check together.
  public init(layer: Int, confidence: Double) {
    self.layer = layer
    self.confidence = confidence
  }
}

/// How a token came to its layer.
public struct DepthRecord: Sendable, Equatable {
  /// Why the token left where it did.
  public var reason: ExitReason
  /// Every exit layer that was looked at, the last one being where the token left if it left early.
  public var checks: [ExitCheck]
  /// Bytes of weights read for this token: layers, heads, and what the caches of it and of earlier tokens cost.
  public var bytesRead: Int

  /// Puts a record together.
  public init(reason: ExitReason, checks: [ExitCheck], bytesRead: Int) {
    self.reason = reason
    self.checks = checks
    self.bytesRead = bytesRead
  }
}

/// Why a token was chosen where it was.
public enum ExitReason: Sendable, Equatable, CustomStringConvertible {
  /// The confidence reached the threshold.
  case confident
  /// No exit layer was left.
  case lastLayer
  /// What a policy of the caller's own gives.
  case other(String)

  /// As traces write it: `confident`, `last_layer` or the policy's own word.
  public var description: String {
    switch self {
    case .confident: "confident"
    case .lastLayer: "last_layer"
    case .other(let text): text
    }
  }
}
