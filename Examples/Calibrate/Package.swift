// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Calibrate",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "egress", path: "../..")],
  targets: [
    .executableTarget(
      name: "Calibrate",
      dependencies: ["Certification", "EarlyExit", "Generation", "RiskControl", "TextLosses"].map {
        .product(name: $0, package: "egress")
      })
  ]
)
