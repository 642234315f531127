import ArgumentParser

@main
struct Egress: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "egress",
    abstract: "Early exits with calibrated guarantees.",
    subcommands: [Calibrate.self, Study.self, Verify.self])
}
