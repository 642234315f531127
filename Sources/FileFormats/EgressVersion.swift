/// The version of this package, written once.
public enum EgressVersion {
  /// The number alone.
  public static let number = "0.2.0"
  /// What certificates say made them.
  public static let program = "egress \(number)"
}
