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
