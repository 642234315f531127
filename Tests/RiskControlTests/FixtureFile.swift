import Foundation

/// A JSON fixture that lies beside the tests.
enum FixtureFile {
  static func decode<Value: Decodable>(_ name: String, as: Value.Type) throws -> Value {
    let url = Bundle.module.bundleURL.appendingPathComponent("Fixtures").appendingPathComponent(name)
    return try JSONDecoder().decode(Value.self, from: Data(contentsOf: url))
  }
}
