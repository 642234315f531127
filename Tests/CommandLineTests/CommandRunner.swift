import Foundation
import TestSupport
import Testing

/// Runs the program that was built beside the tests.
struct CommandRunner {
  struct Result {
    var output: Data
    var errors: String
    /// The exit status, or minus the signal's number.
    var status: Int32

    var text: String { String(decoding: output, as: UTF8.self) }

    /// The output as a JSON object.
    func json() throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: output) as? [String: Any])
    }
  }

  /// A folder of the test's own, with a store in it.
  let folder: TemporaryDirectory

  init() throws {
    folder = try TemporaryDirectory()
  }

  /// Linux has a device that is always full.
  static let hasFullDevice = FileManager.default.fileExists(atPath: "/dev/full")

  /// Where a file of this name lies, or is to lie, in the test's folder.
  func path(_ name: String) -> String { folder.path + "/" + name }

  /// The text of a file in the test's folder.
  func text(_ name: String) throws -> String { try String(contentsOfFile: path(name), encoding: .utf8) }

  /// The program lies in the folder of the test bundle, or in that of the test runner.
  static let program: URL = {
    let places = CommandLine.arguments.map { URL(fileURLWithPath: $0) } + [Bundle.main.bundleURL]
    for place in places {
      var folder = place
      for _ in 0..<4 {
        let candidate = folder.appendingPathComponent("egress")
        if folder.lastPathComponent == "release" || folder.lastPathComponent == "debug",
          FileManager.default.isExecutableFile(atPath: candidate.path)
        {
          return candidate
        }
        folder.deleteLastPathComponent()
      }
    }
    return URL(fileURLWithPath: "egress")
  }()

  /// Runs a command to its end. One that hangs is killed in the end, after longer than any machine needs.
  ///
  /// - Parameters:
  ///   - output: A file that standard output goes to instead.
  ///   - errors: A file that standard error goes to instead.
  ///   - started: Called when the process runs.
  func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:],
    output: FileHandle? = nil, errors: FileHandle? = nil, timeout: Double = 900,
    started: (Process) throws -> Void = { _ in }
  ) throws -> Result {
    let process = Process()
    process.executableURL = Self.program
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    var variables = ProcessInfo.processInfo.environment
    variables["EGRESS_HOME"] = folder.path + "/home"
    variables["SWIFT_BACKTRACE"] = "enable=no"
    process.environment = variables.merging(environment) { $1 }
    // Files hold whatever is written; a pipe nobody reads would block.
    let inputFile = try folder.write("stdin-\(UUID().uuidString)", input)
    process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: inputFile))
    let outputFile = try folder.write("stdout-\(UUID().uuidString)", "")
    let errorFile = try folder.write("stderr-\(UUID().uuidString)", "")
    process.standardOutput = try output ?? FileHandle(forWritingTo: URL(fileURLWithPath: outputFile))
    process.standardError = try errors ?? FileHandle(forWritingTo: URL(fileURLWithPath: errorFile))
    try process.run()
    try started(process)
    let deadline = Date(timeIntervalSinceNow: timeout)
    while process.isRunning, Date() < deadline { usleep(2_000) }
    if process.isRunning {
      kill(process.processIdentifier, SIGKILL)
      Issue.record("egress \(arguments.joined(separator: " ")) took more than \(timeout) s")
    }
    process.waitUntilExit()
    return Result(
      output: try Data(contentsOf: URL(fileURLWithPath: outputFile)),
      errors: String(decoding: try Data(contentsOf: URL(fileURLWithPath: errorFile)), as: UTF8.self),
      status: process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus)
  }

  /// A pipe whose ends no other process gets by accident: several tests start programs at the same time, and only a
  /// file can be closed to them in the moment it is opened.
  func makePipe() throws -> (reading: FileHandle, writing: FileHandle) {
    let path = folder.path + "/pipe-\(UUID().uuidString)"
    try #require(mkfifo(path, 0o600) == 0)
    // Without O_NONBLOCK the first end would wait for the second.
    let reading = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    let writing = open(path, O_WRONLY | O_CLOEXEC)
    try #require(reading >= 0 && writing >= 0 && fcntl(reading, F_SETFL, 0) == 0)
    return (
      FileHandle(fileDescriptor: reading, closeOnDealloc: true),
      FileHandle(fileDescriptor: writing, closeOnDealloc: true)
    )
  }

  static let chatTemplate =
    #"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"#
    + #"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"#

  /// Writes a small model with random weights, 128 tokens of context and a ChatML template.
  func writeModel(
    _ name: String = "tiny.gguf", layers: Int = 2, edit: (inout GGUFBuilder) -> Void = { _ in }
  ) throws -> String {
    var decoder = TinyDecoder()
    decoder.layerCount = layers
    var builder = decoder.gguf()
    builder.set("tokenizer.chat_template", .string(Self.chatTemplate))
    edit(&builder)
    return try folder.write(name, builder.build())
  }
}

/// Expects one sentence on standard error, nothing on standard output, and that status.
func expectRefusal(
  _ result: CommandRunner.Result, status: Int32, saying text: String,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(result.status == status, "\(result.errors)", sourceLocation: sourceLocation)
  #expect(result.output.isEmpty, sourceLocation: sourceLocation)
  #expect(result.errors.contains(text), "\(result.errors)", sourceLocation: sourceLocation)
  #expect(result.errors.hasPrefix("egress: "), sourceLocation: sourceLocation)
  #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)", sourceLocation: sourceLocation)
}
