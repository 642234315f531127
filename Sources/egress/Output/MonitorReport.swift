import RiskControl

/// What `monitor` says of a log.
struct MonitorReport: Encodable {
  var certificateSha256: String
  var metric: String
  var epsilon: Double
  var delta: Double
  var audits: Int
  var meanLoss: Double
  var pValue: Double
  var alarm: Bool
  var alarmAt: Int?

  init(_ header: AuditLog.Header, _ monitor: RiskMonitor) {
    certificateSha256 = header.certificate
    (metric, epsilon, delta) = (header.metric, header.epsilon, header.delta)
    (audits, meanLoss, pValue) = (monitor.count, monitor.meanLoss, monitor.pValue)
    (alarm, alarmAt) = (monitor.isAlarmed, monitor.alarmAt)
  }

  /// For a person.
  var text: String {
    let state =
      alarmAt.map {
        "alarm, at audit \($0): the loss is above epsilon, or what has a probability of at most delta has happened"
      } ?? (audits == 0 ? "no audits yet" : "no alarm")
    return """
      state       \(state)
      audits      \(audits), mean loss \(meanLoss.formatted(places: 4)) (\(metric))
      epsilon     \(TableText.short(epsilon)), delta \(TableText.short(delta))
      evidence    p = \(TableText.short(pValue)) of "the expected loss was at most epsilon all along"
      certificate \(certificateSha256)

      """
  }
}
