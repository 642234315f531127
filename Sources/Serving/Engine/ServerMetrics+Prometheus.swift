import FileFormats

extension ServerMetrics {
  /// Everything counted, in Prometheus' text format (version 0.0.4).
  var prometheus: String {
    let state = snapshot
    var text = PrometheusText()
    text.gauge("build_info", "The program.", [(["version": EgressVersion.number], 1)])
    text.counter(
      "requests_total", "Answers by route and status.",
      state.requests.map { (["route": $0.key.route, "status": "\($0.key.status)"], $0.value) })
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
      state.tokensByLayer.map { (["layer": "\($0.key)"], $0.value) })
    text.counter(
      "tokens_by_writer_total", "Tokens of outputs that were drafted, by who wrote them.",
      state.tokensByWriter.map { (["writer": $0.key], $0.value) })
    text.counter(
      "guard_total", "Documents that a certificate's guard looked at.",
      state.guarded.map { (["inside": "\($0.key)"], $0.value) })
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

  typealias Sample = (labels: [String: String], value: Int)

  mutating func counter(_ name: String, _ help: String, _ value: Int) { counter(name, help, [([:], value)]) }
  mutating func counter(_ name: String, _ help: String, _ samples: [Sample]) {
    add(name, help, "counter", samples)
  }
  mutating func gauge(_ name: String, _ help: String, _ value: Int) { gauge(name, help, [([:], value)]) }
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
        + " \(sample.value)"
    }.sorted()
  }

  private mutating func begin(_ name: String, _ help: String, _ type: String) {
    lines += ["# HELP egress_\(name) \(help)", "# TYPE egress_\(name) \(type)"]
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
