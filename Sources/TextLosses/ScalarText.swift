/// A piece of text that equals another where their Unicode scalars are the same.
///
/// Swift's `String` takes composed and decomposed characters for equal ("é" and "e" with an accent); the reference
/// scorers, written in Python, compare scalars, and so do the losses here: a text counts as its references have it,
/// and nothing is normalised.
struct ScalarText: Hashable, Sendable {
  private let bytes: [UInt8]

  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var text = String.UnicodeScalarView()
    text.append(contentsOf: scalars)
    bytes = Array(String(text).utf8)
  }

  init(_ text: String) { bytes = Array(text.utf8) }
}

extension String {
  /// Lower case as Python's `str.lower` has it: scalar by scalar, but a capital sigma at the end of a word becomes
  /// the final one.
  func lowercasedScalars() -> [Unicode.Scalar] {
    let scalars = Array(unicodeScalars)
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(scalars.count)
    for (index, scalar) in scalars.enumerated() {
      if scalar.value < 0x80 {
        result.append(scalar.properties.isUppercase ? Unicode.Scalar(UInt8(scalar.value) + 0x20) : scalar)
      } else if scalar == "\u{3A3}" {
        let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
        let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
        result.append(isFinal ? "\u{3C2}" : "\u{3C3}")
      } else {
        result += scalar.properties.lowercaseMapping.unicodeScalars
      }
    }
    return result
  }
}

extension Unicode.Scalar {
  /// White space as Python's `str.split` has it: that of Unicode, and four separators of ASCII.
  var isSeparator: Bool { properties.isWhitespace || (0x1C...0x1F).contains(value) }

  /// A letter, a digit or a number, as `\w` of Python's regular expressions has them; combining marks are none.
  var isWordPart: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: properties.numericType != nil || self == "_"
    }
  }
}
