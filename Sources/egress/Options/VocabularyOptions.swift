import ArgumentParser
import Checkpoints
import Generation

/// A model of which only the vocabulary is needed: its weights are not looked at.
struct VocabularyOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A model's name, a .gguf file, or a Hugging Face directory.", valueName: "model"))
  var model: String = ModelManifest.defaultName

  func open() throws -> TextFacts {
    let checkpoint = try Checkpoint.open(ModelStore().resolve(model).path)
    let facts = try TextFacts(checkpoint)
    for note in checkpoint.notes + facts.notes { Console.warning(note) }
    return facts
  }
}
