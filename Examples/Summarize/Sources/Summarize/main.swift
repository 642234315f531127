import Foundation
import Generation

// usage: swift run -c release Summarize "$(egress models path)" ../tide-mill.txt
let paths = CommandLine.arguments.dropFirst()
guard paths.count == 2 else { exit(64) }
let model = try LanguageModel(path: paths[1])
let document = try String(contentsOfFile: paths[2], encoding: .utf8)
for try await step in model.summarize(document) {
  print(step.text, terminator: "")
}
print()
