import ArgumentParser
import LossTables
import RiskControl

/// What a certificate is compared with beside its table.
struct VerificationOptions: ParsableArguments {
  @Option(help: "Table of a further risk, in the order of calibrate's --also.")
  var also: [String] = []

  @Option(help: "File of density ratios, where the certificate was made with weights.")
  var weights: String?

  @Option(
    name: .customLong("weight-bound"), parsing: .unconditional, help: "Upper bound on any density ratio.")
  var weightBound: Double?

  @Option(help: "File of the model, to compare with the certificate.")
  var model: String?

  @Option(
    help: ArgumentHelp(
      "Refuse a certificate that the Ed25519 key of this PEM file has not signed.", valueName: "public.pem"))
  var verifyKey: String?

  @Option(help: "File of the exit policy, to compare with the certificate.")
  var policy: String?

  func validate() throws {
    if (weights == nil) != (weightBound == nil) {
      throw ValidationError("--weights and --weight-bound belong together")
    }
  }

  /// The tables of the further risks, each with the bound that the certificate has for it.
  func furtherTables(of certificate: Certificate, _ reading: TableArguments) throws -> [LossTable] {
    guard also.count == certificate.furtherRisks.count else {
      throw ValidationError(
        "the certificate holds \(certificate.furtherRisks.count) further risks; give --also once for each, found "
          + "\(also.count)"
      )
    }
    return try zip(also, certificate.furtherRisks).map { path, risk in
      try reading.read(path, lossBound: risk.lossBound, hasFullModel: certificate.startsAtFullModel)
    }
  }

  /// The weights of the samples; `nil` where all weigh alike.
  func ratios() throws -> SampleWeights? {
    try weights.map { try SampleWeights(LossTable.numbers(path: $0), bound: weightBound ?? 1) }
  }
}
