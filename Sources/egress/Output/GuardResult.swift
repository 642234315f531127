import Generation

/// What a guard found, in results.
struct GuardResult: Codable {
  var inside: Bool
  var pValue: Double

  init?(_ found: Applicability?) {
    guard let found else { return nil }
    (inside, pValue) = (found.isInside, found.pValue)
  }

  /// Said of a document that is outside.
  static func sentence(_ name: String, _ found: Applicability) -> String {
    "\(name) is unlike the documents that the certificate was made with (p = \(found.pValue.formatted(places: 3))): "
      + "decoded at full depth"
  }
}
