import ArgumentParser
import Foundation

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Show a trace as an HTML page.",
    discussion: """
      The page is one file that needs nothing else: the text coloured by exit layer (or by who wrote it, where two \
      models did), tokens by exit layer, and the confidences that were looked at by layer.

      EXAMPLES
        egress summarize --exit-threshold 0.9 --exit-layers 18,24 --trace t.jsonl article.txt
        egress report t.jsonl -o page.html
      """)

  @Argument(help: "The trace that --trace wrote; - reads standard input.")
  var trace: String

  @Option(
    name: .shortAndLong, help: "The page; - is standard output. (default: the trace's name, ending in .html)")
  var output: String?

  @Option(help: "What the page is called. (default: the trace's name)")
  var title: String?

  func validate() throws {
    if trace == "-", output == nil {
      throw ValidationError("Give an --output for a trace from standard input.")
    }
  }

  func run() throws {
    let file = try TraceFile(path: trace)
    if file.isCut {
      Console.warning("\(trace) ends in the middle of a line; its \(file.tokens.count) whole lines are shown")
    }
    let name = trace == "-" ? "trace" : (trace as NSString).lastPathComponent
    let page = TracePage(file, title: title ?? name).html()
    let path = output ?? (trace as NSString).deletingPathExtension + ".html"
    guard path != "-" else {
      try TextOutput.standard.write(page)
      return
    }
    do {
      try Data(page.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(path): \(error.localizedDescription)")
    }
  }
}
