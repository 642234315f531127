import Generation

extension LoadedModel {
  /// The grammar of a JSON Schema.
  ///
  /// - Parameter path: Its file, or {} for any value.
  func grammar(schema path: String) throws -> OutputGrammar {
    let text = path == "{}" ? path : try TextInput(path: path).text
    do {
      return try model.grammar(jsonSchema: Array(text.utf8))
    } catch {
      throw CommandError("\(path): \(error)")
    }
  }
}
