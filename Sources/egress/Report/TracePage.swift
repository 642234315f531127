/// A trace as one HTML page that needs nothing else.
struct TracePage {
  private let tokens: [TraceToken]
  private let title: String
  private let layerCount: Int
  /// Sources in the order of their first appearance; empty where the trace names none.
  private let sources: [String]

  init(_ trace: TraceFile, title: String) {
    tokens = trace.tokens
    self.title = title
    // The first token of an output comes from the prompt's pass through all layers.
    layerCount = trace.tokens.map(\.layer).max() ?? 1
    sources = trace.tokens.compactMap(\.source).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }

  /// Where two models wrote and none left early, layers say nothing.
  private var showsLayers: Bool { sources.isEmpty || tokens.contains { $0.layer < layerCount } }

  func html() -> String {
    let charts = [
      sources.isEmpty ? nil : sourceChart(), showsLayers ? layerChart() : nil, confidenceChart(),
    ].compactMap { $0 }
    return HTML.page(
      title: title, style: Self.style + "\n" + colors(),
      body: """
        <dl>
        \(facts())
        </dl>
        <h2>\(sources.isEmpty ? "Text by exit layer" : "Text by who wrote it")</h2>
        <p class="key">\(key())</p>
        <div class="text">\(text())</div>
        \(charts.joined(separator: "\n"))
        """)
  }

  // MARK: - Parts

  private static let style = """
    .text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 2;
      border: 1px solid var(--line); border-radius: 6px; padding: .75rem 1rem; }
    .text span { border-radius: 3px; padding: .15em 0; }
    svg { display: block; max-width: 100%; height: auto; }
    svg text { fill: var(--ink); font-size: 12px; }
    svg .soft { fill: var(--soft); }
    svg .grid { stroke: var(--line); }
    svg rect { stroke: var(--line); }
    svg .box { fill: var(--bar); fill-opacity: .3; stroke: var(--bar); }
    svg .mark { stroke: var(--ink); stroke-width: 2; }
    svg .dot { fill: var(--bar); fill-opacity: .35; }
    """

  /// A colour for every source, and for every layer: blue for the earliest, orange for the last, fainter between, which
  /// colour-blind readers tell apart as well.
  private func colors() -> String {
    let used = Set(tokens.map(\.layer)).sorted()
    let span = Double(max(layerCount - (used.first ?? 1), 1))
    let layers = used.map { layer in
      let place = 1 - 2 * Double(layerCount - layer) / span
      return Self.rule("l\(layer)", hue: place < 0 ? 212 : 24, strength: 8 + 42 * place.magnitude)
    }
    let hues = [212.0, 24, 285, 145, 60, 180]
    return (layers + sources.indices.map { Self.rule("s\($0)", hue: hues[$0 % hues.count], strength: 45) })
      .joined(separator: "\n")
  }

  /// - Parameter strength: In per cent.
  private static func rule(_ name: String, hue: Double, strength: Double) -> String {
    let tone = "hsl(\(hue.formatted(places: 0)) 90% 50% / \(strength.formatted(places: 0))%)"
    return ".\(name) { background: \(tone); } svg .\(name) { fill: \(tone); }"
  }

  private func name(_ token: TraceToken) -> String {
    if sources.isEmpty { return "l\(token.layer)" }
    return token.source.flatMap { sources.firstIndex(of: $0) }.map { "s\($0)" } ?? ""
  }

  private func facts() -> String {
    // The first token belongs to the prompt's pass.
    let later = tokens.dropFirst()
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(values.count, 1)) }
    var facts = [("tokens", tokens.count.grouped)]
    if showsLayers {
      let average = mean(tokens.map { Double($0.layer) })
      facts.append(("average exit layer", "\(average.formatted(places: 1)) of \(layerCount)"))
      let early = later.count { $0.layer < layerCount }
      facts.append(("left early", Self.percent(early, later.count)))
    }
    let bytes = later.compactMap(\.bytes)
    if !bytes.isEmpty {
      facts.append(("weights read a token", (mean(bytes) / 1e6).formatted(places: 1) + " MB"))
    }
    let seconds = later.compactMap(\.seconds)
    if !seconds.isEmpty {
      facts.append(("time a token", (1000 * mean(seconds)).formatted(places: 1) + " ms"))
    }
    return facts.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }.joined(separator: "\n")
  }

  private func key() -> String {
    guard sources.isEmpty else {
      return sources.enumerated().map { "<span class=\"s\($0)\">\(HTML.escape($1))</span>" }.joined()
    }
    return "layer " + Set(tokens.map(\.layer)).sorted().map { "<span class=\"l\($0)\">\($0)</span>" }.joined()
  }

  private func text() -> String {
    tokens.map { token in
      guard !token.text.isEmpty else { return "" }
      var note = "layer \(token.layer)"
      if let confidence = token.confidence { note += ", confidence \(confidence.formatted(places: 3))" }
      if let reason = token.reason { note += ", \(reason)" }
      if let source = token.source { note += ", \(source)" }
      return "<span class=\"\(name(token))\" title=\"\(HTML.escape(note))\">\(HTML.escape(token.text))</span>"
    }.joined()
  }

  private static func percent(_ part: Int, _ whole: Int) -> String {
    (100 * Double(part) / Double(max(whole, 1))).formatted(places: 0) + " %"
  }

  // MARK: - Charts

  /// Bars that lie, one a row, with their numbers.
  private func bars(_ rows: [(label: String, count: Int, style: String)], heading: String, of total: Int)
    -> String
  {
    let height = 24
    let largest = max(rows.map(\.count).max() ?? 1, 1)
    let label = 9 * (rows.map(\.label.count).max() ?? 1) + 12
    var svg = ""
    for (index, row) in rows.enumerated() {
      let top = index * height
      let width = 460 * row.count / largest
      svg += """
        <text x="\(label - 8)" y="\(top + 16)" text-anchor="end">\(HTML.escape(row.label))</text>\
        <rect class="\(row.style)" x="\(label)" y="\(top + 3)" width="\(max(width, 1))" height="\(height - 6)" rx="2"/>\
        <text class="soft" x="\(label + max(width, 1) + 8)" y="\(top + 16)">\(row.count.grouped) \
        (\(Self.percent(row.count, total)))</text>

        """
    }
    return """
      <h2>\(heading)</h2>
      <svg viewBox="0 0 \(label + 600) \(rows.count * height)" width="\(label + 600)" role="img" \
      aria-label="\(heading)">
      \(svg)</svg>
      """
  }

  private func layerChart() -> String {
    let counts = Dictionary(tokens.map { ($0.layer, 1) }, uniquingKeysWith: +)
    return bars(
      counts.keys.sorted().map { ("layer \($0)", counts[$0] ?? 0, "l\($0)") },
      heading: "Tokens by exit layer",
      of: tokens.count)
  }

  private func sourceChart() -> String {
    bars(
      sources.enumerated().map { index, source in
        (source, tokens.count { $0.source == source }, "s\(index)")
      }, heading: "Tokens by who wrote them", of: tokens.count)
  }

  /// The confidences that were looked at, by layer: a dot each, a box from the first decile to the last, the median.
  private func confidenceChart() -> String? {
    var values: [Int: [Double]] = [:]
    for check in tokens.flatMap({ $0.checks ?? [] }) where check.confidence.isFinite {
      values[check.layer, default: []].append(min(max(check.confidence, 0), 1))
    }
    guard !values.isEmpty else { return nil }
    let step = max(18, min(90, 720 / values.count))
    let (left, height) = (44, 220)
    func place(_ value: Double) -> String { (10 + Double(height) * (1 - value)).formatted(places: 1) }
    let width = left + values.count * step + 10
    var svg = ""
    for tick in [0, 0.25, 0.5, 0.75, 1] {
      svg += """
        <line class="grid" x1="\(left)" x2="\(width - 10)" y1="\(place(tick))" y2="\(place(tick))"/>\
        <text class="soft" x="\(left - 6)" y="\(place(tick - 0.018))" \
        text-anchor="end">\(tick.formatted(places: 2))</text>

        """
    }
    for (index, layer) in values.keys.sorted().enumerated() {
      let sorted = (values[layer] ?? []).sorted()
      func quantile(_ share: Double) -> Double { sorted[Int((share * Double(sorted.count - 1)).rounded())] }
      let center = left + index * step + step / 2
      let half = max(4, step / 4)
      // Many dots make a page slow and show no more.
      for (number, value) in sorted.enumerated() where number % (sorted.count / 400 + 1) == 0 {
        let shift = (number * 7 % 11 - 5) * half / 6
        svg += "<circle class=\"dot\" cx=\"\(center + shift)\" cy=\"\(place(value))\" r=\"2\"/>"
      }
      let (low, high) = (quantile(0.1), quantile(0.9))
      let box = (Double(height) * (high - low)).formatted(places: 1)
      svg += """

        <rect class="box" x="\(center - half)" width="\(2 * half)" y="\(place(high))" height="\(box)"/>\
        <line class="mark" x1="\(center - half)" x2="\(center + half)" y1="\(place(quantile(0.5)))" \
        y2="\(place(quantile(0.5)))"/>\
        <text x="\(center)" y="\(height + 28)" text-anchor="middle">\(layer)</text>

        """
    }
    return """
      <h2>Confidence by layer</h2>
      <p class="key">every exit layer that was looked at; \
      boxes from the first decile to the last, lines at the median</p>
      <svg viewBox="0 0 \(width) \(height + 36)" width="\(width)" role="img" aria-label="Confidence by layer">
      \(svg)</svg>
      """
  }
}

/// Text in HTML.
enum HTML {
  /// What all pages look like.
  private static let style = """
    :root { --ink: #1d2127; --soft: #5c6570; --line: #d5dae0; --paper: #ffffff; --bar: #5b7fa6; }
    @media (prefers-color-scheme: dark) {
      :root { --ink: #e8ebef; --soft: #9aa4af; --line: #3a424c; --paper: #14171b; --bar: #7fa3ca; }
    }
    body { margin: 0 auto; padding: 1.5rem; max-width: 60rem; background: var(--paper); color: var(--ink);
      font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
    h1 { font-size: 1.3rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
    h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
    dl { display: flex; flex-wrap: wrap; gap: .75rem 2rem; margin: 0; }
    dt { color: var(--soft); font-size: .8rem; }
    dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
    .key { margin: 0 0 .5rem; font-size: .8rem; color: var(--soft); display: flex; flex-wrap: wrap; gap: .3rem .6rem; }
    .key span { color: var(--ink); border-radius: 3px; padding: 0 .5em; }
    """

  /// A page that needs nothing else, and loads nothing.
  static func page(title: String, style own: String, body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>\(escape(title))</title>
    <style>
    \(style)
    \(own)
    </style>
    </head>
    <body>
    <h1>\(escape(title))</h1>
    \(body)
    </body>
    </html>

    """
  }

  /// The text as it stands in an element or between quotation marks: never markup, and without characters that a page
  /// must not hold.
  static func escape(_ text: String) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      case "\n", "\t": escaped.unicodeScalars.append(scalar)
      // The pictures of control characters.
      case "\0"..."\u{1F}": escaped.unicodeScalars.append(UnicodeScalar(0x2400 + scalar.value) ?? "\u{FFFD}")
      case "\u{7F}"..."\u{9F}": escaped += "\u{FFFD}"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
