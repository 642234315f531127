import Foundation
import TestSupport
import Testing

@Suite struct ReportCommandTests {
  let egress: CommandRunner

  init() throws { egress = try CommandRunner() }

  private func report(_ trace: String, _ options: String...) throws -> (
    result: CommandRunner.Result, page: String
  ) {
    let path = try egress.folder.write("t.jsonl", trace)
    let result = try egress.run(["report", path] + options)
    return (result, (try? String(contentsOfFile: egress.folder.path + "/t.html", encoding: .utf8)) ?? "")
  }

  private static let first =
    #"{"index":0,"id":1,"text":"One","layer":4,"reason":"last_layer","checks":[],"seconds":0.1}"#
  private static let second =
    #"{"index":1,"id":2,"text":" two","layer":2,"reason":"confident","checks":[{"layer":1,"confidence":0.25},{"layer":2,"confidence":0.75}],"bytes":2000000,"seconds":0.01}"#

  @Test func `a trace becomes one page that needs nothing else`() throws {
    let (result, page) = try report(Self.first + "\n" + Self.second + "\n")
    #expect(result.status == 0 && result.errors.isEmpty && result.output.isEmpty, "\(result.errors)")
    #expect(page.hasPrefix("<!DOCTYPE html>") && page.hasSuffix("</html>\n"))
    #expect(page.contains(#"<span class="l4" title="layer 4, last_layer">One</span>"#))
    #expect(page.contains(#"<span class="l2" title="layer 2, confidence 0.750, confident"> two</span>"#))
    #expect(page.contains("3.0 of 4") && page.contains("100 %") && page.contains("2.0 MB"))
    #expect(page.contains("Tokens by exit layer") && page.contains("Confidence by layer"))
    for part in ["http://", "https://", "<script", "<img", "<link", "url("] { #expect(!page.contains(part)) }
  }

  @Test func `the trace of a run can be shown`() throws {
    let model = try egress.writeModel()
    let trace = egress.folder.path + "/run.jsonl"
    let run = try egress.run([
      "generate", "--model", model, "--raw", "--max-tokens", "12", "--exit-threshold", "0", "--trace", trace,
      "abc",
    ])
    #expect(run.status == 0)
    let result = try egress.run(["report", trace, "-o", "-", "--title", "A <title>"])
    #expect(result.status == 0 && result.text.contains("<h1>A &lt;title&gt;</h1>"), "\(result.errors)")
    #expect(result.text.contains("class=\"l1\""))
  }

  @Test func `hostile text stays text`() throws {
    let hostile = [
      "</span><script>alert(1)</script>", "\" onmouseover=\"x", "' & <b>", "\u{1B}[31m\u{0}", "a\nb\tc",
    ]
    let lines = try hostile.map { text -> String in
      let object: [String: Any] = ["text": text, "layer": 2, "reason": text, "checks": [], "source": text]
      return String(decoding: try JSONSerialization.data(withJSONObject: object), as: UTF8.self)
    }
    let (result, page) = try report(lines.joined(separator: "\n"))
    #expect(result.status == 0, "\(result.errors)")
    for part in ["<script", "<b>", "\" onmouseover", "\u{1B}", "\u{0}"] {
      #expect(!page.contains(part), "\(part)")
    }
    #expect(page.contains("&lt;/span&gt;&lt;script&gt;alert(1)") && page.contains("&#39; &amp; &lt;b&gt;"))
    #expect(page.contains("a\nb\tc") && page.contains("␛[31m␀"))
    // Every element that is opened is closed.
    #expect(page.components(separatedBy: "<span").count == page.components(separatedBy: "</span>").count)
  }

  @Test func `tokens are coloured by who wrote them where the trace says so`() throws {
    let sources = ["small", "small", "large", "corrected"]
    let lines = sources.map { #"{"text":"x","layer":4,"source":"\#($0)"}"# }
    let (result, page) = try report(lines.joined(separator: "\n") + "\n")
    #expect(result.status == 0, "\(result.errors)")
    #expect(page.contains("Text by who wrote it") && page.contains("Tokens by who wrote them"))
    #expect(page.contains(#"<span class="s0" title="layer 4, small">x</span>"#))
    #expect(page.contains(#"<span class="s2" title="layer 4, corrected">x</span>"#))
    #expect(page.contains("2 (50 %)"))
  }

  @Test func `a trace that was cut shows its whole lines, one that is damaged none`() throws {
    let cut = try report(Self.first + "\n" + Self.second.dropLast(20))
    #expect(cut.result.status == 0 && cut.result.errors.contains("its 1 whole lines are shown"))
    #expect(cut.page.contains(">One</span>") && !cut.page.contains("two"))
    try FileManager.default.removeItem(atPath: egress.folder.path + "/t.html")
    let damaged = try report(Self.first + "\n" + Self.second.dropLast(20) + "\n" + Self.second + "\n")
    expectRefusal(damaged.result, status: 1, saying: "t.jsonl line 2 is not of a trace")
    #expect(damaged.page.isEmpty)
    expectRefusal(try report("").result, status: 1, saying: "t.jsonl is empty")
    expectRefusal(try report("{\"te").result, status: 1, saying: "line 1 is not of a trace")
    expectRefusal(
      try report(#"{"text":"x","layer":0}"# + "\n" + Self.first + "\n").result, status: 1,
      saying: "out of range")
    expectRefusal(try egress.run(["report", "nowhere.jsonl"]), status: 1, saying: "nowhere.jsonl")
    expectRefusal(try egress.run(["report", "-"]), status: 64, saying: "--output")
  }
}
