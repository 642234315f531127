import ArgumentParser
import FileFormats
import Foundation

/// The root of the command line.
@main
struct Egress: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "egress",
    abstract: "Summarise and answer with a transformer on the CPU.",
    discussion: """
      EXAMPLES
        egress models pull smollm2-135m-instruct
        egress summarize article.txt
        egress answer --question "Who found it?" article.txt
        cat article.txt | egress summarize --format json -

      Results go to standard output, everything else to standard error.

      EXIT CODES
        0    done
        1    the work could not be done
        2    nothing could be certified
        3    only the safest setting could be certified
        4    a monitor's alarm was raised
        64   a command or an option was wrong
        65   of a shard or a merge: it will never work with this input
        75   of a shard or a merge: it may work later
        130  interrupted; what was written so far stands
        143  the same, by SIGTERM

      ENVIRONMENT
        EGRESS_HOME  where downloaded models and packed weights lie (~/.cache/egress)
        NO_COLOR     no colours in messages
      """,
    version: EgressVersion.number,
    subcommands: [
      SummarizeCommand.self, AnswerCommand.self, GenerateCommand.self, ChatCommand.self, ScoreCommand.self,
      AdaptCommand.self,
      FitExitsCommand.self, ExportStatesCommand.self, PlanExitsCommand.self, PlanRunCommand.self,
      ServeCommand.self, TokenizeCommand.self, DetokenizeCommand.self, InspectCommand.self, BenchCommand.self,
      ModelsCommand.self, Calibrate.self, MergeCommand.self, EvaluateCommand.self, ReportCommand.self,
      StudyCommand.self, VerifyCommand.self,
      MonitorCommand.self,
    ])

  /// Runs the command line and ends the process.
  static func main() {
    // A closed pipe is then an error of write(), which is reported like any other.
    signal(SIGPIPE, SIG_IGN)
    Interrupt.endOnTermination()
    do {
      try checkEncoding()
      try checkCommand(CommandLine.arguments.dropFirst().first)
      var command = try parseAsRoot()
      try command.run()
    } catch {
      end(with: error)
    }
  }

  /// What is no UTF-8 would become another text, and another file's name.
  private static func checkEncoding() throws {
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let argument = CommandLine.unsafeArgv[index], String(validatingCString: argument) == nil else {
        continue
      }
      throw ValidationError(
        "argument \(index), \(FileError.printable(String(cString: argument))), is not UTF-8; a file of such a name can "
          + "be given as standard input")
    }
  }

  /// The parser calls a command that it does not know an unexpected argument.
  private static func checkCommand(_ name: String?) throws {
    let known = configuration.subcommands.map { $0._commandName }
    guard let name, !name.hasPrefix("-"), !known.contains(name), name != "help" else { return }
    throw ValidationError(
      "there is no command called \(name)\(Suggestion.text(for: name, among: known)); egress --help lists them"
    )
  }

  /// Reports an error in one sentence. Help that was asked for comes this way too, and goes to standard output.
  private static func end(with error: any Error) -> Never {
    if let code = error as? ExitCode { exit(withCode: code.rawValue) }
    if let failure = error as? ShardFailure {
      Console.error(failure.description)
      exit(withCode: failure.status)
    }
    let code = exitCode(for: error).rawValue
    if code == EXIT_SUCCESS {
      do {
        try TextOutput.standard.write(fullMessage(for: error) + "\n")
      } catch {
        Console.error("\(error)")
        exit(withCode: EXIT_FAILURE)
      }
    } else if code == ExitCode.validationFailure.rawValue {
      Console.error(message(for: error))
    } else {
      Console.error("\(error)")
    }
    exit(withCode: code)
  }

  private static func exit(withCode code: Int32) -> Never {
    Foundation.exit(code)
  }
}
