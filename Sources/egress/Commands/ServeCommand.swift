import ArgumentParser
import Foundation
import Generation
import Serving
import SpeculativeDecoding

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve a model over OpenAI's protocol.",
    discussion: """
      Requests are decoded together, and each output is the one that its request gets alone. SIGTERM and Ctrl-C end \
      the server when the requests under way are answered. Of a model that adapt has made faster, documents are \
      decoded as its folder says.

      EXAMPLES
        egress serve
        egress serve --port 8000 --slots 16 --api-key-file keys.txt
        curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
          -d '{"messages": [{"role": "user", "content": "Name three rivers."}]}'
      """)

  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup var certified: ServedCertificateOptions
  @OptionGroup var auditing: AuditOptions
  @OptionGroup var serving: ServerOptions

  func validate() throws { try certified.validate(with: auditing) }

  func run() throws {
    let logger = serving.makeLogger()
    let server = try Server(configuration: serving.configuration(), logger: logger) { try load() }
    let host = serving.printedHost
    let file = URL(fileURLWithPath: models.model).lastPathComponent
    let model = file.hasSuffix(".gguf") ? String(file.dropLast(5)) : file
    try Blocking.run {
      try await server.run(
        onListening: { Console.note("listening at http://\(host):\($0); loading \(model)") },
        onReady: { Console.note("\(model) is served at http://\(host):\($0)") })
    }
  }

  private func load() throws -> ServedModel {
    let loaded = try models.load()
    let name =
      loaded.entry?.name ?? URL(fileURLWithPath: loaded.path).deletingPathExtension().lastPathComponent
    let isPlain = certified.fullDepth || loaded.model.hasEncoder
    return ServedModel(
      name: name, subject: try loaded.subject(),
      certificates: try certified.load(loaded, threads: models.threads, auditing),
      strategy: isPlain
        ? FullDepth() : try SpeculationStrategy([.promptLookup], for: loaded.model, rule: .exact))
  }
}
