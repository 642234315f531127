import CTensorKernels
import Foundation

/// The processor's instruction set that the kernels use.
public enum InstructionSet: String, Sendable, CaseIterable {
  /// Plain C, on any processor.
  case portable
  /// AVX2 with FMA and F16C.
  case avx2
  /// AVX-512 with VNNI.
  case avx512vnni
  /// 64-bit Arm with the dot-product extension.
  case neon

  /// Whether this build has its kernels, and processor and operating system let them run.
  public var isAvailable: Bool { ek_kernels_named(rawValue) != nil }

  /// The fastest that is available here.
  public static var fastest: InstructionSet {
    InstructionSet(rawValue: String(cString: ek_kernels_best().pointee.name)) ?? .portable
  }

  /// The name of the environment variable that forces one of them.
  public static let environmentVariable = "EGRESS_INSTRUCTION_SET"

  /// What the environment variable `EGRESS_INSTRUCTION_SET` asks for, else the fastest.
  ///
  /// - Throws: ``KernelError/instructionSet(_:)`` when it names one that is unknown or not available.
  public static func selected() throws(KernelError) -> InstructionSet {
    guard let name = getenv(environmentVariable).map({ String(cString: $0) }), !name.isEmpty else {
      return fastest
    }
    guard let set = InstructionSet(rawValue: name), set.isAvailable else {
      throw .instructionSet(name)
    }
    return set
  }

  /// - Precondition: `isAvailable`; others fall back to the portable kernels, which every build has.
  package var kernels: UnsafePointer<ek_kernels> {
    ek_kernels_named(rawValue) ?? ek_kernels_named("portable")
  }
}

/// A request that the kernels cannot carry out.
public enum KernelError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An instruction set that is unknown, or not available on this machine.
  case instructionSet(String)
  /// The operating system gave no thread or no memory.
  case resources(String)
  /// The weight of this number, counted row after row, or one of its block, is infinite or no number.
  case notFinite(Int)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .instructionSet(let name):
      "\(InstructionSet.environmentVariable)=\(name): expected one of "
        + InstructionSet.allCases.filter(\.isAvailable).map(\.rawValue).joined(separator: ", ")
        + " on this machine"
    case .resources(let what): "the operating system did not give \(what)"
    case .notFinite(let index): "weight \(index) is not a finite number"
    }
  }
}
