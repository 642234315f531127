import Generation
import RiskControl

/// What the outputs of a request have to be.
enum ResponseFormat: Sendable {
  case text
  /// Any JSON object.
  case object
  /// JSON that this schema describes.
  case schema(OrderedJSON)

  /// Where a schema stands in a request.
  static let schemaPath = "response_format.json_schema.schema"

  /// - Throws: ``APIError`` for what is wrong or not offered; whether the schema is one is seen when it is used.
  init(_ fields: inout RequestFields) throws {
    self = .text
    guard var format = try fields.object("response_format") else { return }
    switch try format.text("type") {
    case "text": break
    case "json_object": self = .object
    case "json_schema":
      guard var description = try format.object("json_schema") else {
        throw format.fault("json_schema", expected: "an object with a schema", found: "none")
      }
      // They name the schema for other readers; what is asked for is strict whatever is said.
      description.ignore("name", "description", "strict")
      guard try description.object("schema") != nil,
        let schema = try fields.ordered()["response_format"]?["json_schema"]?["schema"]
      else { throw description.fault("schema", expected: "a JSON Schema", found: "none") }
      try description.refuseOthers()
      self = .schema(schema)
    default:
      throw APIError.unsupported(
        "expected text, json_object or json_schema", param: format.path("type"))
    }
    try format.refuseOthers()
  }

  /// What outputs are held to; `nil` for nothing.
  func grammar(_ model: LanguageModel) throws -> OutputGrammar? {
    switch self {
    case .text: nil
    case .object: try model.grammar()
    case .schema(let schema): try model.grammar(parsed: schema)
    }
  }
}
