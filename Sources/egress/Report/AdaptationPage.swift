import Certification
import EarlyExit
import FileFormats
import Foundation
import RiskControl

/// What `adapt` has tried and found, as one HTML page that needs nothing else.
struct AdaptationPage {
  private let adaptation: Adaptation
  private let plan: ExitPlan?
  private let prompts: PromptPlan?
  private let heads: ExitHeadsDescription?
  private let certificate: Certificate?

  /// - Parameter folder: Where the adaptation has left its plan, heads and certificate.
  init(_ adaptation: Adaptation, folder: String) throws {
    self.adaptation = adaptation
    func bytes(_ path: String) -> Data? { FileManager.default.contents(atPath: path) }
    let plan = Adaptation.File.plan.path(in: folder)
    self.plan = try bytes(plan).map { try ExitPlan.read($0, name: plan) }
    let prompts = Adaptation.File.promptPlan.path(in: folder)
    self.prompts = try bytes(prompts).map { try PromptPlan.read($0, name: prompts) }
    let heads = Adaptation.File.heads.path(in: folder)
    self.heads = try bytes(ExitHeadsDescription.path(for: heads)).map {
      try JSONDecoder().decode(ExitHeadsDescription.self, from: $0)
    }
    certificate =
      adaptation.way == .fullDepth
      ? nil : try Certificate.read(path: Adaptation.certificate(of: adaptation.way, in: folder))
  }

  /// Writes the page into the folder.
  func write(to folder: String) throws {
    let path = Adaptation.File.report.path(in: folder)
    do {
      try Data(html().utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(path)")
    }
  }

  func html() -> String {
    HTML.page(
      title: "\(adaptation.model), made faster", style: Self.style,
      body: """
        <dl>
        \(facts())
        </dl>
        <h2>What pays</h2>
        <p>\(HTML.escape(Self.sentence(adaptation.summary)))</p>
        \(statement())
        <h2>On the clock</h2>
        <p class="key">\(adaptation.timedDocuments) documents that certify nothing, the ways by turns; the outputs that \
        are full depth's to the letter</p>
        \(timings())
        <h2>What was tried under a certificate</h2>
        \(attempts())
        \(exits())
        \(stoppedPrompts())
        """)
  }

  private static let style = """
    table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
    th, td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); }
    th { color: var(--soft); font-weight: normal; font-size: .8rem; }
    td.n, th.n { text-align: right; }
    tr.chosen td { font-weight: bold; }
    """

  private static func sentence(_ text: String) -> String {
    text.prefix(1).uppercased() + text.dropFirst() + "."
  }

  private func facts() -> String {
    let facts = [
      ("a token", adaptation.gain.token.formatted(places: 2) + " times faster"),
      ("a document", adaptation.gain.document.formatted(places: 2) + " times faster"),
      ("fitted on", "\(adaptation.fittedDocuments) documents"),
      ("certified on", "\(adaptation.certifyingDocuments) documents"),
      ("loss", "\(adaptation.metric), \(adaptation.risk)"),
      ("epsilon, delta", "\(TableText.short(adaptation.epsilon)), \(TableText.short(adaptation.delta))"),
    ]
    return facts.map { "<div><dt>\($0.0)</dt><dd>\(HTML.escape($0.1))</dd></div>" }.joined(separator: "\n")
  }

  private func statement() -> String {
    guard let certificate else { return "<p>No output changes, so there is nothing to certify.</p>" }
    return "<p>\(HTML.escape(certificate.statement)) \(HTML.escape(certificate.limits))</p>"
  }

  private static func table(_ heads: [String], _ rows: [(isChosen: Bool, cells: [String])]) -> String {
    let numbers = Set(heads.indices.dropFirst())
    func row(_ tag: String, _ cells: [String]) -> String {
      cells.enumerated().map { index, cell in
        "<\(tag)\(numbers.contains(index) ? " class=\"n\"" : "")>\(HTML.escape(cell))</\(tag)>"
      }.joined()
    }
    let body = rows.map { "<tr\($0.isChosen ? " class=\"chosen\"" : "")>\(row("td", $0.cells))</tr>" }
    return "<table>\n<tr>\(row("th", heads))</tr>\n\(body.joined(separator: "\n"))\n</table>"
  }

  private func timings() -> String {
    Self.table(
      ["way", "ms a token", "ms a document", "same outputs"],
      adaptation.timings.map { timing in
        (
          timing == adaptation.chosenTiming,
          [
            timing.name, timing.tokenMilliseconds.formatted(places: 2),
            timing.documentMilliseconds.formatted(places: 1), "\(timing.identicalOutputs)",
          ]
        )
      })
  }

  private func attempts() -> String {
    func number(_ value: Double?, _ places: Int) -> String { value?.formatted(places: places) ?? "" }
    return Self.table(
      ["way", "outcome", "threshold", "prompts to layer", "loss", "bound", "ms a document", "at full depth"],
      adaptation.attempts.map { attempt in
        (
          attempt.name == adaptation.way.rawValue,
          [
            attempt.name, attempt.outcome.rawValue, attempt.threshold.map(TableText.short) ?? "",
            attempt.promptLayer.map(String.init) ?? "",
            number(attempt.risk, 4), number(attempt.bound, 4), number(attempt.milliseconds, 1),
            number(attempt.fullMilliseconds, 1),
          ]
        )
      })
  }

  /// How often exits agree with full depth, and which of them are looked at.
  private func exits() -> String {
    guard let heads, let plan else { return "" }
    let planned = Set(plan.layers)
    let rows = heads.agreement.map { row in
      (
        planned.contains(row.layer),
        [
          "layer \(row.layer)", row.sharedHead.formatted(places: 3), row.fittedMap.formatted(places: 3),
          row.classifier.formatted(places: 3), planned.contains(row.layer) ? "yes" : "",
        ]
      )
    }
    let choice =
      plan.layers.isEmpty
      ? "No way to leave early is cheaper than full depth on this machine."
      : "Tokens leave by \(plan.measure); a token then costs \(plan.cost.formatted(places: 2)) ms of "
        + "\(plan.fullDepthCost.formatted(places: 2)), by what the parts cost."
    return """
      <h2>Exits</h2>
      <p class="key">how often an exit's token is full depth's, on \(heads.heldOutTokens.grouped) tokens held out</p>
      \(Self.table(["exit", "model's own head", "fitted head", "classifier right", "looked at"], rows))
      <p>\(HTML.escape(choice))</p>
      """
  }

  /// How often a prompt that stops leaves the next token as it is, and which layer goes together with exits.
  private func stoppedPrompts() -> String {
    guard let prompts, !prompts.depths.isEmpty else { return "" }
    let rows = prompts.depths.map { depth in
      (
        depth.layer == prompts.layer,
        [
          "layer \(depth.layer)", depth.agreement.formatted(places: 3),
          depth.layer == prompts.layer ? "yes" : "",
        ]
      )
    }
    return """
      <h2>Prompts that stop after a layer</h2>
      <p class="key">how often the next token is full depth's, on \(prompts.tokenCount.grouped) tokens held out</p>
      \(Self.table(["prompts to", "same token", "tried with exits"], rows))
      """
  }
}
