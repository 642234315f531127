import FileFormats
import RiskControl

extension ServerMetrics {
  /// Everything counted, in Prometheus' text format (version 0.0.4).
  var prometheus: String {
    let state = snapshot
    var text = PrometheusText()
    text.gauge("build_info", "The program.", [(["version": EgressVersion.number], 1)])
    text.counter(
      "requests_total", "Answers by route and status.",
      state.requests.map { (["route": $0.key.route, "status": "\($0.key.status)"], Double($0.value)) })
    text.counter("prompt_tokens_total", "Tokens of prompts that were taken up.", state.promptTokens)
    text.counter("output_tokens_total", "Tokens generated.", state.outputTokens)
    text.counter("outputs_finished_total", "Outputs that are complete.", state.finished)
    text.counter(
      "outputs_cancelled_total", "Outputs that were given up, mostly because the client left.",
      state.cancelled)
    text.gauge("outputs_waiting", "Outputs that wait for a slot.", state.waiting)
    text.gauge("outputs_running", "Outputs in a slot.", state.running)
    text.counter(
      "prefix_cache_tokens_total", "Tokens of prompts that were not read because they were kept.",
      state.reusedTokens)
    text.gauge(
      "prefix_cache_bytes", "Keys and values that are kept for prompts that begin alike.", state.prefixBytes)
    text.counter(
      "tokens_by_layer_total", "Tokens generated, by the layers run for them.",
      state.tokensByLayer.map { (["layer": "\($0.key)"], Double($0.value)) })
    text.counter(
      "tokens_by_writer_total", "Tokens of outputs that were drafted, by who wrote them.",
      state.tokensByWriter.map { (["writer": $0.key], Double($0.value)) })
    text.counter(
      "drafted_tokens_total", "Drafted tokens that were verified, by their place in the draft.",
      state.drafted.map { (["place": "\($0.key.place)", "kept": "\($0.key.isKept)"], Double($0.value)) })
    text.counter(
      "guard_total", "Documents that a certificate's guard looked at.",
      state.guarded.map { (["inside": "\($0.key)"], Double($0.value)) })
    func audits(_ value: (RiskMonitor) -> Double) -> [PrometheusText.Sample] {
      state.audits.map { (["certificate": $0.key], value($0.value)) }
    }
    text.counter(
      "audits_total", "Outputs under a certificate that were compared with full depth, as its log has them.",
      audits { Double($0.count) })
    text.gauge(
      "audit_mean_loss", "How far outputs under a certificate are from full depth.", audits(\.meanLoss))
    text.gauge(
      "audit_p_value", "Of: the expected loss was at most what the certificate allows all along.",
      audits(\.pValue))
    text.gauge(
      "audit_alarm", "Whether the monitor of a certificate has raised its alarm.",
      audits { $0.isAlarmed ? 1 : 0 })
    text.gauge("audits_waiting", "Audits that wait until nobody is served.", state.auditsWaiting)
    text.counter(
      "audits_dropped_total", "Audits that were given up: too many waited, or a log could not be written.",
      state.auditsDropped)
    text.histogram(
      "time_to_first_token_seconds", "From a request to its first token, waiting included.", state.firstToken)
    text.histogram(
      "time_between_tokens_seconds", "From a token of an output to its next.", state.betweenTokens)
    text.histogram("output_seconds", "From a request to the end of an output.", state.durations)
    return text.lines.joined(separator: "\n") + "\n"
  }
}

/// Lines of metrics, each with its help and type.
private struct PrometheusText {
  private(set) var lines: [String] = []

  typealias Sample = (labels: [String: String], value: Double)

  mutating func counter(_ name: String, _ help: String, _ value: Int) {
    counter(name, help, [([:], Double(value))])
  }
  mutating func counter(_ name: String, _ help: String, _ samples: [Sample]) {
    add(name, help, "counter", samples)
  }
  mutating func gauge(_ name: String, _ help: String, _ value: Int) {
    gauge(name, help, [([:], Double(value))])
  }
  mutating func gauge(_ name: String, _ help: String, _ samples: [Sample]) {
    add(name, help, "gauge", samples)
  }

  mutating func histogram(_ name: String, _ help: String, _ histogram: ServerMetrics.Histogram) {
    begin(name, help, "histogram")
    var below = 0
    for (bound, count) in zip(histogram.bounds, histogram.counts) {
      below += count
      lines.append("egress_\(name)_bucket{le=\"\(bound)\"} \(below)")
    }
    lines.append("egress_\(name)_bucket{le=\"+Inf\"} \(histogram.count)")
    lines.append("egress_\(name)_sum \(histogram.sum)")
    lines.append("egress_\(name)_count \(histogram.count)")
  }

  private mutating func add(_ name: String, _ help: String, _ type: String, _ samples: [Sample]) {
    begin(name, help, type)
    lines += samples.map { sample in
      let labels = sample.labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }
      return "egress_\(name)" + (labels.isEmpty ? "" : "{\(labels.joined(separator: ","))}")
        + " " + Self.short(sample.value)
    }.sorted()
  }

  private mutating func begin(_ name: String, _ help: String, _ type: String) {
    lines += ["# HELP egress_\(name) \(help)", "# TYPE egress_\(name) \(type)"]
  }

  /// Counts without a point.
  private static func short(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
