import ArgumentParser

struct Calibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Certify a threshold of exits or of drafts, from a model and documents or from a table of losses.",
    discussion: """
      With --data, the model is run on every document at full depth and at two dozen thresholds. NAME (--output) \
      begins the names of the files: NAME.runs.jsonl, the outputs, by which an interrupted or repeated command goes \
      on; NAME.losses.jsonl, the table of losses, for study and verify; NAME.certificate.json; and the certificate's \
      guard, NAME.guard.safetensors, which has to lie beside it.

      With --draft as well, what is certified is the rollback threshold of that draft model, by rising threshold \
      from 0; with --prompt-depth, the layer after which prompts stop, from the last down. With a layer, as \
      --prompt-depth 24, a threshold of exits or of drafts is certified together with prompts that stop there.

      TABLE is CSV, .npy, safetensors or JSON Lines, told by its first bytes, or - for standard input. A CSV table has \
      thresholds in its first column, safest first, and one column a sample. With several tables (one a policy) the \
      cheapest certified policy is chosen, delta divided among them.

      EXAMPLES
        egress calibrate --data docs.jsonl --metric rouge-l --confidence saturation --exit-layers 24,27 --epsilon 0.05
        egress summarize --certificate docs.certificate.json article.txt
        egress calibrate --model LARGE --draft SMALL --data docs.jsonl --epsilon 0.05
        egress summarize --model LARGE --draft SMALL --certificate docs.certificate.json article.txt
        egress calibrate --data docs.jsonl --prompt-depth --epsilon 0.02
        egress calibrate --data docs.jsonl --prompt-depth 24,20 --confidence classifier --epsilon 0.05
        egress calibrate --data docs.jsonl --prompt-depth 24 --draft head --fallback 0 --epsilon 0.05
        egress calibrate --data questions.jsonl --risk selective --metric exact-match --epsilon 0.1
        egress answer --certificate questions.certificate.json --question "When was it built?" bridge.txt
        egress calibrate losses.csv --epsilon 0.05
        egress calibrate --data docs.jsonl --epsilon 0.05 --shard 3/8

      Exit status: 0 a threshold past the safest is certified; 3 only the safest (the full model) is; 2 nothing is; \
      1 the data are wrong; 64 the options are. With --shard 0 when the shard is done; see egress merge.
      """)

  @Argument(help: "Table of losses; several tables are several policies.")
  var tables: [String] = []

  @OptionGroup(title: "Running a Model") var documents: CalibrationDocuments
  @OptionGroup(title: "Running a Model") var guarding: CalibrationGuard
  @OptionGroup(title: "Early Exit Options") var exits: ExitPolicyOptions
  @OptionGroup(title: "Drafting") var drafting: CalibrationDraft
  @OptionGroup var rule: RuleArguments
  @OptionGroup var table: TableArguments

  @OptionGroup var further: FurtherTables
  @OptionGroup var writing: CertificateOptions
  @OptionGroup var loss: LossOptions
  @OptionGroup var subject: CalibrationSubject

  @Option(help: "With a table: file of the exit policy, whose SHA-256 goes into the certificate.")
  var policy: String?

  @Option(help: "Print text or json (the certificate).")
  var format = TableFormat.text

  func run() throws {
    guard let data = documents.data else { return try runOnTables(rule.settings(isGrowing: false)) }
    func work() throws { try loss.isSelective ? runOnAnswers(data) : runOnDocuments(data) }
    if documents.sharding.shard == nil { try work() } else { try ShardFailure.classifying(work) }
  }
}
