import Certification
import Serving

func serve(_ subject: DecodingSubject, onListening: @escaping @Sendable (Int) -> Void) async throws {
  // snippet
  var configuration = ServerConfiguration()
  configuration.port = 0
  configuration.slots = 2
  let model = ServedModel(name: "reader", subject: subject)
  let server = try Server(model, configuration: configuration)
  try await server.run(onListening: onListening)
  // end
}
