import ArgumentParser
import Checkpoints
import FileFormats
import RiskControl

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what a model is made of, and the bytes a token reads; or what a certificate says.",
    discussion: """
      EXAMPLES
        egress inspect
        egress inspect --model model.gguf --format json
        egress inspect --certificate docs.certificate.json
      """)

  @OptionGroup var vocabulary: VocabularyOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "Say what this certificate says; nothing is checked but its digest.")
  var certificate: String?

  func run() throws {
    if let certificate { return try show(certificate) }
    let checkpoint = try Checkpoint.open(ModelStore().resolve(vocabulary.model).path)
    let facts = try ModelFacts(checkpoint)
    try TextOutput.standard.write(
      output.format == .json ? try JSONOutput.line(facts) + "\n" : facts.text)
  }

  private func show(_ path: String) throws {
    if let answers = try AnswerCertificate.read(path: path) {
      try TextOutput.standard.write(
        output.format == .json
          ? String(decoding: answers.jsonData(), as: UTF8.self) : answers.statement + "\n")
      return
    }
    let found = try Certificate.read(path: path)
    try TextOutput.standard.write(
      output.format == .json
        ? String(decoding: found.jsonData(), as: UTF8.self)
        : CertificateText.describe(found, path: path) + "\n")
  }
}
