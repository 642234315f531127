// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Summarize",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "egress", path: "../..")],
  targets: [
    .executableTarget(name: "Summarize", dependencies: [.product(name: "Generation", package: "egress")])
  ]
)
