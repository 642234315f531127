import Foundation
import Generation
import TestSupport
import Testing
import Tokenization
import Transformers

@Suite struct GrammarTests {
  /// A model of pieces of JSON and halves of characters whose logits are a hash of all before them.
  private static func model() -> LanguageModel {
    let decoder = ScriptedModel { history, _ in
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325
      for token in history { hash = (hash ^ UInt64(token)) &* 0x100_0000_01b3 }
      return (0..<320).map { token in
        var mixed = (hash ^ UInt64(token)) &* 0x9e37_79b9_7f4a_7c15
        mixed ^= mixed >> 29
        return Float(mixed % 4096) / 256
      }
    }
    return LanguageModel(
      name: "pieces", decoder: decoder, tokenizer: PieceTokenizer(), promptTemplate: .plain, endTokens: [258])
  }

  private func output(_ schema: String?, _ options: GenerationOptions, prompt: Int) throws -> Generation {
    let model = Self.model()
    var options = options
    options.grammar = try model.grammar(jsonSchema: schema.map { Array($0.utf8) })
    let session = try model.makeSession(prompt: [prompt, 7], options: options)
    while try session.next() != nil {}
    return session.generation
  }

  @Test(arguments: 1...120) func `whatever a model would say, its output validates`(_ seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    var maker = SchemaMaker()
    let schema = maker.make(depth: 3, using: &random)
    let parsed = try JSONDecoder().decode(PlainJSON.self, from: Data(schema.utf8))
    for (turn, maxTokens) in [600, 600, 900].enumerated() {
      var options = GenerationOptions(maxTokens: maxTokens)
      if turn > 0 { options.sampling = .random(.init(temperature: 2, topK: turn > 1 ? 20 : nil, seed: seed)) }
      let output = try output(schema, options, prompt: Int(seed) + turn)
      #expect(output.stopReason == .endOfText, "\(schema): \(output.text)")
      _ = try JSONSerialization.jsonObject(with: Data(output.text.utf8), options: .fragmentsAllowed)
      let value = try JSONDecoder().decode(PlainJSON.self, from: Data(output.text.utf8))
      #expect(try parsed.validates(value, root: parsed), "\(schema): \(output.text)")
    }
  }

  @Test(arguments: 1...20) func `any object is an object`(_ seed: Int) throws {
    let output = try output(nil, .init(maxTokens: 40 + seed * 10), prompt: seed)
    #expect(output.stopReason == .endOfText)
    let value = try JSONSerialization.jsonObject(with: Data(output.text.utf8))
    #expect(value is [String: Any], "\(output.text)")
  }

  @Test func `an output is complete where its tokens are enough for the shortest one`() throws {
    let schema = #"{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}"#
    // {"a":true} and the end.
    for prompt in 0..<20 {
      let enough = try output(schema, .init(maxTokens: 11), prompt: prompt)
      #expect(enough.stopReason == .endOfText)
      let value = try #require(
        try JSONSerialization.jsonObject(with: Data(enough.text.utf8)) as? [String: Any])
      #expect(value.count == 1 && value["a"] is Bool)
    }
    #expect(try output(schema, .init(maxTokens: 3), prompt: 1).stopReason == .maxTokens)
  }

  @Test func `outputs are the same alone and in a batch`() throws {
    let model = Self.model()
    let schema = #"{"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 2}"#
    var options = GenerationOptions(maxTokens: 80)
    options.grammar = try model.grammar(jsonSchema: Array(schema.utf8))
    let prompts = (0..<9).map { [$0, 7] }
    let batch = try #require(try BatchDecoder(model: model).run(prompts: prompts, options: options))
    for (prompt, together) in zip(prompts, batch) {
      #expect(try output(schema, .init(maxTokens: 80), prompt: prompt[0]) == together)
    }
  }

  @Test(arguments: [
    (#"{"type": "string"}"#, #""Ünïcödé \\ \u00e9 日本""#),
    (#"{"type": "integer", "minimum": -5, "maximum": 1200}"#, "-5"),
    (#"{"type": "integer", "minimum": -5, "maximum": 1200}"#, "1200"),
    (#"{"type": "integer", "exclusiveMinimum": 98, "maximum": 101}"#, "99"),
    (#"{"type": "number", "minimum": 0, "maximum": 1}"#, "0.25"),
    (#"{"type": "number", "exclusiveMinimum": -3, "exclusiveMaximum": 4}"#, "-2.5"),
    (#"{"type": ["number", "null"]}"#, "-12.5e-3"),
    (#"{"enum": ["a", "ab", 1, 12, null, {"x": [1]}]}"#, "12"),
    (#"{"enum": ["a", "ab", 1, 12, null, {"x": [1]}]}"#, #"{"x":[1]}"#),
    (#"{"properties": {"b": {}, "a": {"const": 3}, "c": {"type": "null"}}}"#, #"{"b": [1, "x"], "c": null}"#),
    (#"{"properties": {"b": {}, "a": {}}, "required": ["a"]}"#, "{\n  \"b\": {\"q\": 1},\n  \"a\": true\n}"),
    (#"{"type": "array", "maxItems": 2, "items": {"type": "boolean"}}"#, "[true, false]"),
    (#"{"type": "string", "pattern": "^[A-Z]{2}-\\d+(\\.\\d)?$"}"#, #""AB-12.5""#),
    (#"{"type": "string", "pattern": "^(foo|ba[rz])*[^,]$"}"#, #""foobaz!""#),
    (#"{"type": "string", "format": "date"}"#, #""2026-11-30""#),
    (
      ##"{"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"v": {}, "n": {"$ref": "#/$defs/n"}}}}}"##,
      #"{"v": 1, "n": {"v": 2, "n": {}}}"#
    ),
    (#"{"type": "object", "additionalProperties": {"type": "integer"}}"#, #"{"a": 1, "b": 2}"#),
    (
      #"{"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"k": {"const": "v"}}}]}"#,
      #"{"k": "v"}"#
    ),
  ])
  func `what validates and is written as programs write it may be said`(
    schema: String, text: String
  ) throws {
    let model = LanguageModel.saying(text, after: 1)
    var options = GenerationOptions(maxTokens: 200)
    options.grammar = try model.grammar(jsonSchema: Array(schema.utf8))
    let session = try model.makeSession(prompt: [112], options: options)
    while try session.next() != nil {}
    #expect(session.generation.text == text && session.stopReason == .endOfText)
  }

  @Test(arguments: [
    ("", "not JSON"), ("{", "not JSON"), ("[1]", "expected a schema"), ("false", "expected a schema"),
    (#"{"a": 1, "a": 2}"#, "twice"),
    (#"{"type": "object", "minProperties": 1}"#, "minProperties: the keyword"),
    (#"{"oneOf": [{}]}"#, "oneOf: the keyword"), (#"{"properties": {"x": {"not": {}}}}"#, "properties.x.not"),
    (#"{"type": "string", "minLength": 5, "maxLength": 2}"#, "minLength"),
    (#"{"type": "string", "maxLength": -1}"#, "maxLength"),
    (#"{"type": "array", "minItems": 1e9}"#, "minItems"),
    (#"{"type": "integer", "minimum": 3, "maximum": 2}"#, "between its bounds"),
    (#"{"type": "number", "minimum": 0.5}"#, "minimum"), (#"{"type": "text"}"#, "type"),
    (
      ##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}"##,
      "back to itself"
    ),
    (##"{"anyOf": [{"$ref": "#"}]}"##, "no finite value"),
    (##"{"properties": {"a": {"$ref": "#"}}, "required": ["a"]}"##, "no finite value"),
    (#"{"$ref": "https://example.org/schema"}"#, "$ref"), (##"{"$ref": "#/nowhere"}"##, "nothing at"),
    (#"{"required": ["a"], "additionalProperties": false}"#, "required"),
    (#"{"type": "string", "pattern": "(a{1,99}){1,99}"}"#, "repetitions"),
    (#"{"type": "string", "pattern": "((((a*)*)*)*"}"#, "group"),
    (#"{"type": "string", "pattern": "(?=a)b"}"#, "look"), (#"{"type": "string", "pattern": "a\\1"}"#, "\\1"),
    (#"{"type": "string", "pattern": "[z-a]"}"#, "range"),
    (#"{"type": "string", "pattern": "a**"}"#, "repeated"),
    (#"{"enum": []}"#, "enumeration"), (#"{"enum": [1], "type": "string"}"#, "enumeration"),
  ])
  func `a schema that cannot be used is refused in a sentence`(schema: String, words: String) throws {
    try expectRefusal(schema, words)
  }

  @Test func `schemas that are made to cost time are refused in a sentence`() throws {
    let deep = String(repeating: #"{"items": "#, count: 2000) + "{}" + String(repeating: "}", count: 2000)
    try expectRefusal(deep, "levels deep")
    let chain = (0..<3000).map { ##""d\##($0)": {"items": {"$ref": "#/$defs/d\##($0 + 1)"}}"## }
    try expectRefusal(
      ##"{"$ref": "#/$defs/d0", "$defs": {\##(chain.joined(separator: ",")), "d3000": {}}}"##,
      "deep in each other")
    let many = (0..<40_000).map { "\"value number \($0)\"" }.joined(separator: ",")
    try expectRefusal(#"{"enum": [\#(many)]}"#, "bytes of values")
    let wide = (0..<2000).map { #""p\#($0)": {}"# }.joined(separator: ",")
    try expectRefusal(#"{"properties": {\#(wide)}}"#, "1024 properties")
  }

  @Test func `ambiguous patterns cost no more than a moment`() throws {
    let schema =
      #"{"type": "array", "minItems": 3, "items": {"type": "string", "pattern": "^(a|b|ab|.)*a.{60}$"}}"#
    let start = ContinuousClock.now
    let output = try output(schema, .init(maxTokens: 600), prompt: 3)
    #expect(output.stopReason == .endOfText)
    #expect(ContinuousClock.now - start < .seconds(120))
  }

  private func expectRefusal(_ schema: String, _ words: String) throws {
    let error = #expect(throws: GenerationError.self) {
      try Self.model().grammar(jsonSchema: Array(schema.utf8))
    }
    let sentence = "\(try #require(error))"
    #expect(sentence.contains(words) && !sentence.contains("\n") && sentence.count < 300, "\(sentence)")
  }

  @Test func `what would cut an output or close its way is refused beside a grammar`() throws {
    let model = Self.model()
    var options = GenerationOptions(stopStrings: ["a"])
    options.grammar = try model.grammar()
    #expect(throws: GenerationError.self) { try model.makeSession(prompt: [1], options: options) }
    options.stopStrings = []
    options.adjustments = LogitAdjustments(bias: [123: -.infinity])
    #expect(throws: GenerationError.self) { try model.makeSession(prompt: [1], options: options) }
    options.adjustments = LogitAdjustments(presencePenalty: 3, bias: [123: -50])
    _ = try model.makeSession(prompt: [1], options: options)
  }

  @Test func `a step carries how likely its token was`() throws {
    let model = Self.model()
    var options = GenerationOptions(maxTokens: 6)
    options.topProbabilities = 3
    let session = try model.makeSession(prompt: [5], options: options)
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    #expect(steps.map(\.logProbability) == session.generation.logProbabilities.map { $0 })
    #expect(steps.map(\.alternatives) == session.generation.alternatives.map { $0 })
    #expect(steps.allSatisfy { $0.alternatives?.first?.token == $0.id && $0.alternatives?.count == 3 })
  }
}

/// A token a byte, three special ones, and pieces that tokenizers have: of several characters, and of half a one.
private struct PieceTokenizer: Tokenizer {
  static let pieces: [[UInt8]] = {
    let texts = [
      "{\"", "\":", "\": ", "\",", ", \"", "}}", "]}", "[\"", "[{", "true", "false", "null", "fal", "12",
      "0.5",
      "1e", "-1", "é", "日", "日本", "\\u", "\\n", "\\\"", "name", "\"name\"", "\"}", "\"]", "  ", "\n  ", " \"",
      "],", "},", "}, {", "\",\"", "00", "e-", "\"a", "\"b\"", "a\":", "\\\\", "\\u00", "dead", "{}", "[]",
    ]
    return texts.map { Array($0.utf8) } + [
      [0xC3], [0x97, 0xA5], [0xE6, 0x97], [0xA9, 0x22], [0xF0, 0x9F, 0x98],
    ]
  }()
  private let base = ByteTokenizer()
  var vocabularySize: Int { base.vocabularySize }

  func encode(_ utf8: [UInt8], special: SpecialTokenHandling) throws(TokenizerError) -> [Int] {
    try base.encode(utf8, special: special)
  }
  func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    let place = token - 259
    guard Self.pieces.indices.contains(place) else {
      return try base.bytes(of: token, startsText: &startsText)
    }
    startsText = false
    return Self.pieces[place]
  }
  func isControl(_ token: Int) -> Bool { base.isControl(token) }
  func id(ofSpecial name: String) -> Int? { base.id(ofSpecial: name) }
  func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    base.specialToken(in: text, at: position)
  }
}
