import ChatTemplates
import Foundation
import TestSupport
import Testing

/// Templates against Python's jinja2; Tests/Scripts/make_template_fixtures.py.
@Suite struct ChatTemplateTests {
  private struct Fixtures: Decodable {
    struct Message: Decodable {
      var role: String
      var content: String
    }
    struct Case: Decodable {
      var name: String
      var template: String
      var messages: [Message]
      var prompt: Bool
      /// nil where the template refuses the conversation.
      var expected: String?
    }
    var templates: [String: String]
    var cases: [Case]
  }

  private static func fixtures() throws -> Fixtures {
    let file = try #require(Bundle.module.url(forResource: "Fixtures/templates", withExtension: "json"))
    return try JSONDecoder().decode(Fixtures.self, from: Data(contentsOf: file))
  }

  private static func variables(
    _ messages: [(role: String, content: String)], prompt: Bool = true
  ) -> [String: TemplateValue] {
    [
      "messages": .list(
        messages.map { .map(TemplateMap([("role", .trusted($0.role)), ("content", .content($0.content))])) }),
      "tools": TemplateValue.none, "documents": TemplateValue.none, "add_generation_prompt": .bool(prompt),
      "bos_token": .trusted("<s>"), "eos_token": .trusted("</s>"),
    ]
  }

  @Test func `families' templates write what jinja2 writes`() throws {
    let fixtures = try Self.fixtures()
    #expect(fixtures.cases.count > 80)
    for example in fixtures.cases {
      let template = try ChatTemplate(#require(fixtures.templates[example.template]))
      let variables = Self.variables(
        example.messages.map { ($0.role, $0.content) }, prompt: example.prompt)
      if let expected = example.expected {
        let found = try template.render(variables).string
        #expect(found == expected, "\(example.name)")
      } else {
        #expect(throws: TemplateError.self, "\(example.name)") { try template.render(variables) }
      }
    }
  }

  @Test func `what the conversation says keeps its origin through everything`() throws {
    let template = try ChatTemplate(
      "{% set x = messages[0].content | trim | upper %}<a>{{ (x ~ '<b>').replace('Q', '<c>').split('|') | "
        + "join('<d>') }}"
    )
    let pieces = try template.render(Self.variables([("user", "  q<a>|z ")])).pieces
    #expect(pieces.filter { !$0.isContent }.map(\.text) == ["<a><c>", "<d>", "<b>"])
    #expect(pieces.filter(\.isContent).map(\.text) == ["<A>", "Z"])
  }

  @Test func `programs that do not end, or make too much, are stopped`() throws {
    let loops = [
      "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
      "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
      "{{ 'x' * 1000000000000 }}", "{{ range(1000000000) | list }}",
      "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{{ 9 ** 99999 }}", "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
      "{{ 'a' | indent(100000000) }}",
    ]
    for source in loops {
      let start = ContinuousClock.now
      #expect(throws: TemplateError.self, "\(source)") {
        try ChatTemplate(source).render(Self.variables([("user", "a")]))
      }
      #expect(ContinuousClock.now - start < .seconds(20), "\(source)")
    }
    let deep = [
      String(repeating: "(", count: 100_000), String(repeating: "{% if a %}", count: 100_000),
      "{{ " + String(repeating: "not ", count: 100_000) + "a }}",
      "{{ a" + String(repeating: "[0]", count: 100_000) + " }}",
      "{{ " + String(repeating: "-", count: 100_000) + "1 }}",
      "{{ a" + String(repeating: "|trim", count: 100_000) + " }}",
    ]
    for source in deep {
      #expect(throws: TemplateError.self) {
        try ChatTemplate("{{ " + source + " }}").render(Self.variables([("user", "a")]))
      }
    }
  }

  @Test func `errors say line, expected and found`() {
    func message(_ source: String) -> String {
      do throws(TemplateError) {
        return try ChatTemplate(source).render(Self.variables([("user", "a")])).string
      } catch {
        return error.description
      }
    }
    #expect(
      message("a\n{{ messages.x.y }}") == "chat template, line 2: expected a value with the attribute \"y\", "
        + "found \"x\", which is not defined")
    #expect(
      message("{% include 'x' %}") == "chat template, line 1: the statement \"include\" is not supported")
    #expect(message("{{ 1 | nosuch }}").contains("the filter \"nosuch\" is not supported"))
    #expect(
      message("{% if true %}").contains("expected elif or else or endif, found the end of the template"))
    #expect(message("{{ raise_exception('no') }}").hasSuffix("it refuses the conversation: \"no\""))
    #expect(message("{{ strftime_now('%Y') }}").count == 4)
  }

  @Test("10,000 mutants of the families' templates run or are refused", .timeLimit(.minutes(10)))
  func mutants() throws {
    let sources = try Self.fixtures().templates.sorted { $0.key < $1.key }.map { Array($0.value.utf8) }
    let limits = TemplateLimits(steps: 20_000, length: 100_000)
    var random = SplitMix64(seed: 5)
    var ran = 0
    for index in 0..<10_000 {
      let source = sources[index % sources.count]
      let mutant =
        index % 2 == 0
        ? Mutation.edit(source, upTo: source.count, using: &random)
        : Mutation.editText(source, upTo: source.count, using: &random)
      do throws(TemplateError) {
        let template = try ChatTemplate(String(decoding: mutant, as: UTF8.self), limits: limits)
        _ = try template.render(Self.variables([("user", "One"), ("assistant", "Two"), ("user", "Three")]))
        ran += 1
      } catch {
        #expect(!error.description.isEmpty && error.description.utf8.count < 1000)
      }
    }
    #expect((500...9_500).contains(ran), "\(ran) ran")
  }
}
