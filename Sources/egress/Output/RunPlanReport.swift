import Certification

/// What `plan-run` says.
struct RunPlanReport: Encodable {
  var documents: Int
  var tokens: Int
  var sample: Int
  var secondsPerToken: Double
  var secondsPerTokenError: Double
  var load: Double
  var peakResidentBytes: Int
  var shares: [RunPlan.Share]

  /// - Parameters:
  ///   - sample: Documents that were run.
  ///   - machines: Numbers of machines.
  init(_ plan: RunPlan, sample: Int, machines: [Double]) throws {
    self.sample = sample
    (documents, tokens) = (plan.documents, plan.tokens)
    (secondsPerToken, secondsPerTokenError) = (plan.secondsPerToken, plan.secondsPerTokenError)
    load = plan.loadSeconds
    peakResidentBytes = ProcessClock.peakResidentBytes
    shares = try machines.map { try plan.share(of: Int($0)) }
  }

  /// For a person.
  var text: String {
    let error = 100 * secondsPerTokenError / max(secondsPerToken, .leastNonzeroMagnitude)
    var text = """
      documents   \(documents.grouped), with \(tokens.grouped) tokens to read
      sample      \(sample) documents: \((1000 * secondsPerToken).formatted(places: 3)) ms a token, ± \
      \(error.formatted(places: 0)) %
      memory      \((Double(peakResidentBytes) / 1e6).formatted(places: 0)) MB a machine
      loading     \(load.formatted(places: 1)) s a machine

      """
    func row(_ columns: [String]) -> String {
      zip(columns, [12, 26, 16, 0]).map { $0.padding(to: $1) }.joined() + "\n"
    }
    text += row(["machines", "until the last is done", "its documents", "all machines"])
    for share in shares {
      let (last, all) = (Self.duration(share.seconds), Self.duration(share.machineSeconds))
      text += row(["\(share.machines)", last, share.documents.grouped, all])
    }
    return text
  }

  /// Hours, minutes or seconds.
  private static func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<90: "\(seconds.formatted(places: 1)) s"
    case ..<5400: "\((seconds / 60).formatted(places: 1)) min"
    default: "\((seconds / 3600).formatted(places: 1)) h"
    }
  }
}
