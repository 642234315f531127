// swift-tools-version: 6.2
import PackageDescription

// Warnings are errors in every target of ours; dependencies are built without warnings anyway.
let strictSwift: [SwiftSetting] = [.treatAllWarnings(as: .error)]
let strictC: [CSetting] = [.treatAllWarnings(as: .error)]
let strictCXX: [CXXSetting] = [.treatAllWarnings(as: .error)]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
// A heap for the merges of byte pair encoding.
let heapModule = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
// exp, log and their like.
let realModule = Target.Dependency.product(name: "RealModule", package: "swift-numerics")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")

let package = Package(
  name: "egress",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "egress", targets: ["egress"]),
    .library(name: "TensorKernels", targets: ["TensorKernels"]),
    .library(name: "Checkpoints", targets: ["Checkpoints"]),
    .library(name: "Tokenization", targets: ["Tokenization"]),
    .library(name: "ChatTemplates", targets: ["ChatTemplates"]),
    .library(name: "Transformers", targets: ["Transformers"]),
    .library(name: "Generation", targets: ["Generation"]),
    .library(name: "EarlyExit", targets: ["EarlyExit"]),
    .library(name: "SpeculativeDecoding", targets: ["SpeculativeDecoding"]),
    .library(name: "RiskControl", targets: ["RiskControl"]),
    .library(name: "LossTables", targets: ["LossTables"]),
    .library(name: "TextLosses", targets: ["TextLosses"]),
    .library(name: "Certification", targets: ["Certification"]),
    // A product of its own: whoever uses the others builds no web server.
    .library(name: "Serving", targets: ["Serving"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.1"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .target(name: "CTensorKernels", cSettings: strictC),
    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
    .target(
      name: "TensorKernels",
      dependencies: ["CTensorKernels", .target(name: "COpenBLAS", condition: .when(platforms: [.linux]))],
      swiftSettings: strictSwift),
    .systemLibrary(
      name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    .target(name: "FileFormats", dependencies: [crypto], swiftSettings: strictSwift),
    .target(
      name: "Checkpoints", dependencies: ["TensorKernels", "FileFormats", "CZlib", realModule],
      swiftSettings: strictSwift
    ),
    .systemLibrary(
      name: "CSentencePieceLibrary", pkgConfig: "sentencepiece",
      providers: [.apt(["libsentencepiece-dev"]), .brew(["sentencepiece"])]),
    .target(name: "CSentencePiece", dependencies: ["CSentencePieceLibrary"], cxxSettings: strictCXX),
    .target(
      name: "Tokenization", dependencies: ["CSentencePiece", heapModule], swiftSettings: strictSwift),
    .target(name: "ChatTemplates", swiftSettings: strictSwift),
    .target(
      name: "Transformers",
      dependencies: ["CTensorKernels", "TensorKernels", "Checkpoints", "FileFormats", realModule],
      swiftSettings: strictSwift),
    .target(
      name: "Generation",
      dependencies: [
        "Transformers", "Tokenization", "ChatTemplates", "Checkpoints", "FileFormats", realModule,
      ],
      swiftSettings: strictSwift),
    .target(
      name: "EarlyExit",
      dependencies: [
        "Generation", "Transformers", "Checkpoints", "TensorKernels", "FileFormats", realModule,
      ],
      swiftSettings: strictSwift),
    .target(
      name: "SpeculativeDecoding",
      dependencies: ["EarlyExit", "Generation", "Transformers", "Checkpoints", "FileFormats", realModule],
      swiftSettings: strictSwift),
    .target(name: "RiskControl", dependencies: [crypto, realModule], swiftSettings: strictSwift),
    .target(name: "LossTables", dependencies: ["RiskControl", realModule], swiftSettings: strictSwift),
    .target(name: "TextLosses", dependencies: [realModule], swiftSettings: strictSwift),
    .target(
      name: "Certification",
      dependencies: [
        "FileFormats", "Checkpoints", "Transformers", "Generation", "EarlyExit", "SpeculativeDecoding",
        "RiskControl", "LossTables", "TextLosses",
      ],
      swiftSettings: strictSwift),
    .target(
      name: "Serving",
      dependencies: [
        "FileFormats", "TensorKernels", "Transformers", "Generation", "RiskControl", "Certification",
        hummingbird, hummingbirdCore, httpTypes, lifecycle, logging, nioCore, nioHTTPTypes,
      ],
      // Compiled in, so that an installed binary has its page wherever it lies.
      resources: [.embedInCode("Resources/page.html")],
      swiftSettings: strictSwift),
    .executableTarget(
      name: "egress",
      dependencies: [
        "Certification", "Serving",
        "TensorKernels", "FileFormats", "Checkpoints", "Tokenization", "Transformers", "Generation",
        "EarlyExit",
        "SpeculativeDecoding", "RiskControl", "LossTables", "TextLosses", argumentParser, logging,
      ],
      // Compiled in, so that an installed binary knows its models wherever it lies.
      resources: [.embedInCode("Resources/manifest.json")],
      swiftSettings: strictSwift),
    // The example is a package of its own too; here it is built with everything else, by public declarations alone.
    .executableTarget(
      name: "CalibrateExample",
      dependencies: ["Certification", "EarlyExit", "Generation", "RiskControl", "TextLosses"],
      path: "Examples/Calibrate/Sources/Calibrate", packageAccess: false, swiftSettings: strictSwift),

    .target(
      name: "TestSupport",
      dependencies: [
        "TensorKernels", "FileFormats", "Checkpoints", "Tokenization", "Transformers", "Generation",
      ],
      path: "Tests/TestSupport", swiftSettings: strictSwift),
    .testTarget(
      name: "TensorKernelsTests", dependencies: ["TensorKernels", "CTensorKernels", "TestSupport"],
      swiftSettings: strictSwift),
    .testTarget(
      name: "CheckpointsTests", dependencies: ["Checkpoints", "FileFormats", "TestSupport"],
      swiftSettings: strictSwift),
    .testTarget(
      name: "TokenizationTests", dependencies: ["Tokenization", "TestSupport"],
      resources: [.copy("Fixtures")], swiftSettings: strictSwift),
    .testTarget(
      name: "ChatTemplatesTests", dependencies: ["ChatTemplates", "TestSupport"],
      resources: [.copy("Fixtures")], swiftSettings: strictSwift),
    .testTarget(
      name: "TransformersTests", dependencies: ["Transformers", "TestSupport"],
      resources: [.copy("Fixtures")], swiftSettings: strictSwift),
    .testTarget(
      name: "GenerationTests", dependencies: ["Generation", "TestSupport"], swiftSettings: strictSwift),
    .testTarget(
      name: "EarlyExitTests", dependencies: ["EarlyExit", "Generation", "TestSupport"],
      swiftSettings: strictSwift),
    .testTarget(
      name: "SpeculativeDecodingTests", dependencies: ["SpeculativeDecoding", "TestSupport"],
      swiftSettings: strictSwift),
    .testTarget(
      name: "RiskControlTests", dependencies: ["RiskControl", "TestSupport"], exclude: ["Scripts"],
      resources: [.copy("Fixtures")], swiftSettings: strictSwift),
    .testTarget(
      name: "LossTablesTests", dependencies: ["LossTables", "RiskControl", "TextLosses", "TestSupport"],
      swiftSettings: strictSwift),
    .testTarget(
      name: "TextLossesTests", dependencies: ["TextLosses", "RiskControl", "TestSupport"],
      exclude: ["Scripts"],
      resources: [.copy("Fixtures")], swiftSettings: strictSwift),
    .testTarget(
      name: "CertificationTests",
      dependencies: [
        "Certification", "EarlyExit", "FileFormats", "Generation", "RiskControl", "SpeculativeDecoding",
        "TestSupport", "TextLosses",
      ],
      swiftSettings: strictSwift),
    .testTarget(
      name: "ServingTests",
      dependencies: [
        "Serving", "Certification", "EarlyExit", "Generation", "RiskControl", "SpeculativeDecoding",
        "TestSupport", "TextLosses", lifecycle, logging,
      ],
      swiftSettings: strictSwift),
    .testTarget(
      name: "DocumentationTests",
      dependencies: [
        "Certification", "ChatTemplates", "Checkpoints", "EarlyExit", "FileFormats", "Generation",
        "LossTables",
        "RiskControl", "Serving", "SpeculativeDecoding", "TensorKernels", "TestSupport", "TextLosses",
        "Tokenization", "Transformers",
      ],
      swiftSettings: strictSwift),
    .testTarget(
      name: "CommandLineTests", dependencies: ["Checkpoints", "FileFormats", "TestSupport"],
      swiftSettings: strictSwift),
  ],
  cLanguageStandard: .gnu11,
  cxxLanguageStandard: .cxx17
)
