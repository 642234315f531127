import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import RiskControl

struct AdaptCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapt",
    abstract: "Make any model faster on documents like yours, with a certificate.",
    discussion: """
      Runs the model on the documents, fits exit heads to it, plans which exits to look at on this machine, certifies \
      early exits and prompt depths, times what is certified with and without drafts looked up in the text, and keeps \
      what is fastest. The first three tenths of the documents, at most 100, make heads, plan and guard; the others \
      certify.

      Everything goes to MODEL.egress/ beside the model, and report.html there says what was tried. summarize and \
      answer use the folder from then on; --full-depth decodes without it. An interrupted command goes on where it was.

      EXAMPLES
        egress adapt model.gguf --data docs.jsonl --epsilon 0.02
        egress summarize --model model.gguf article.txt
        egress adapt smollm2-135m-instruct --data questions.jsonl --metric token-f1 --epsilon 0.05

      Exit status: 0 something pays; 3 nothing does, and decoding stays at full depth; 1 the data are wrong; 64 the \
      options are.
      """)

  @Argument(help: "A model's name, a .gguf file, or a Hugging Face directory.")
  var model: String

  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents with references, at least \(AdaptationRun.fewestDocuments); a question makes its "
        + "document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(help: "What outputs are measured by: \(QualityMetric.names.joined(separator: ", ")).")
  var metric = "rouge-l"

  @Option(
    help: """
      gap, the loss against the references beyond full depth's, or consistency, the loss against full depth's output, \
      which needs no references.
      """)
  var risk = QualityRisk.gap

  @Option(parsing: .unconditional, help: "By how much the loss may rise on average, in (0, 1).")
  var epsilon = 0.02

  @Option(parsing: .unconditional, help: "Tolerated probability of an unlucky set of documents, in (0, 1).")
  var delta = 0.1

  @Option(parsing: .unconditional, help: "Documents to use. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @OptionGroup var form: OutputOptions

  func validate() throws {
    _ = try settings()
    let metric = try quality()
    if !metric.readsReferences, risk == .consistency {
      throw ValidationError("--metric \(metric.name) is a property of one text: --risk must be gap.")
    }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads must be in 1...256, but is \(threads).")
    }
  }

  private func settings() throws -> CalibrationSettings {
    let settings = CalibrationSettings(epsilon: epsilon, delta: delta)
    do { _ = try Calibration(settings) } catch { throw ValidationError("\(error)") }
    return settings
  }

  private func quality() throws -> QualityMetric {
    guard let metric = QualityMetric(name: metric), metric.distance == nil else {
      throw ValidationError("--metric must be one that compares texts, such as rouge-l or token-f1.")
    }
    return metric
  }

  func run() throws {
    let records = Array(try DocumentFile.read(data).prefix(limit ?? .max))
    let loaded = try ModelOptions.load(model, threads: threads)
    let folder = Adaptation.folder(of: loaded.path)
    Interrupt.watch()
    let bar = StepBar()
    let run = try AdaptationRun(
      loaded.subject(), records: records, documentsPath: data, folder: folder, settings: settings(),
      metric: quality(), risk: risk, maxTokens: maxTokens, shouldStop: { Interrupt.isRequested },
      progress: bar.show)
    if !run.skipped.isEmpty {
      Console.warning(
        "\(run.skipped.count) documents are too long to be read whole and are left out; they are decoded at full depth"
      )
    }
    let found = try run.run()
    bar.clear()
    guard let found else {
      Console.note("\(folder) is not finished; the same command goes on from there")
      throw ExitCode(Interrupt.exitCode)
    }
    let report = Adaptation.File.report.path(in: folder)
    do {
      try Data(AdaptationPage(found, folder: folder).html().utf8)
        .write(to: URL(fileURLWithPath: report), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(report)")
    }
    try TextOutput.standard.write(
      form.format == .json ? try JSONOutput.line(found) + "\n" : found.text(folder: folder))
    if found.way == .fullDepth, !found.looksUp { throw ExitCode(3) }
  }

  /// A bar that begins anew with each step.
  private final class StepBar {
    private var step: AdaptationRun.Step?
    private var bar: ProgressBar?
    private var first = 0

    func show(_ step: AdaptationRun.Step, done: Int, total: Int) {
      if step != self.step {
        clear()
        (self.step, bar, first) = (step, ProgressBar(total: total, what: step.rawValue), done)
      }
      bar?.show(done: done, since: first)
    }

    func clear() { bar?.clear() }
  }
}

extension Adaptation {
  /// For a person.
  fileprivate func text(folder: String) -> String {
    var lines = [
      "\(model): \(summary)",
      "fitted on \(fittedDocuments) documents, certified on \(certifyingDocuments): \(metric), \(risk), epsilon "
        + "\(TableText.short(epsilon)), delta \(TableText.short(delta))",
      "",
    ]
    for attempt in attempts {
      var line = attempt.name.padding(to: 26) + attempt.outcome.rawValue
      if let threshold = attempt.threshold, attempt.outcome == .certified {
        line += " at \(TableText.short(threshold))"
        if let risk = attempt.risk, let bound = attempt.bound {
          line += ", loss \(risk.formatted(places: 4)), at most \(bound.formatted(places: 4))"
        }
      }
      lines.append(line)
    }
    lines += ["", "".padding(to: 26) + "ms a token  ms a document  same outputs of \(timedDocuments)"]
    for timing in timings {
      func number(_ value: Double, _ width: Int, _ places: Int = 2) -> String {
        let text = value.formatted(places: places)
        return String(repeating: " ", count: max(width - text.count, 1)) + text
      }
      lines.append(
        timing.name.padding(to: 26) + number(timing.tokenMilliseconds, 10)
          + number(timing.documentMilliseconds, 15) + number(Double(timing.identicalOutputs), 17, 0)
          + (timing == chosenTiming ? "  <- chosen" : ""))
    }
    lines += [
      "",
      "\(gain.token.formatted(places: 2)) times faster a token, \(gain.document.formatted(places: 2)) a document; "
        + "report in \(File.report.path(in: folder))",
    ]
    return lines.joined(separator: "\n") + "\n"
  }
}
