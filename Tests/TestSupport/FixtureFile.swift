import Foundation

/// A JSON fixture that lies beside tests.
public enum FixtureFile {
  /// - Parameter bundle: That of the tests, `Bundle.module` there.
  public static func decode<Value: Decodable>(
    _ name: String, as: Value.Type, in bundle: Bundle
  ) throws -> Value {
    let url = bundle.bundleURL.appendingPathComponent("Fixtures").appendingPathComponent(name)
    return try JSONDecoder().decode(Value.self, from: Data(contentsOf: url))
  }
}
