import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import TextLosses

// usage: swift run -c release Calibrate "$(egress models path)" docs.jsonl article.txt
let paths = CommandLine.arguments.dropFirst()
guard paths.count == 3 else { exit(64) }
let subject = try DecodingSubject(path: paths[1])
let regime = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: nil)
let policy = try ThresholdPolicy(threshold: 0)
let strategy = ExitStrategy(policy: policy, measure: SoftmaxConfidence())
let sweep = try ThresholdSweep.exits(subject, strategy: strategy, policy: policy, regime: regime)
let calibrator = try Calibrator(sweep, metric: .text(.rouge(Rouge(.rougeL))), documentsPath: paths[2])
let settings = CalibrationSettings(epsilon: 0.05, delta: 0.1)
guard let certificate = try calibrator.certificate(settings: settings, output: "docs") else { exit(130) }
try certificate.write(to: "docs.certificate.json")
let certified = try CertifiedPolicy.load("docs.certificate.json", for: subject, regime: regime)
let document = try String(contentsOfFile: paths[3], encoding: .utf8)
for try await step in subject.model.summarize(document, strategy: certified) {
  print(step.text, terminator: "")
}
