import Foundation
import RealModule

/// Sentence BLEU (Papineni et al. 2002) as sacreBLEU computes it: the 13a tokenizer, exponential smoothing, effective
/// order.
public enum Bleu {
  private static let highestOrder = 4

  /// The score in [0, 1] against one or more references.
  public static func score(_ prediction: String, references: [String]) -> Double {
    let hypothesis = tokens(prediction)
    let others = references.map(tokens)
    guard !others.isEmpty else { return 0 }
    var clipped: [ArraySlice<ScalarText>: Int] = [:]
    for reference in others {
      for (ngram, count) in ngrams(reference) { clipped[ngram] = max(clipped[ngram] ?? 0, count) }
    }
    var correct = [Int](repeating: 0, count: highestOrder)
    var total = correct
    for (ngram, count) in ngrams(hypothesis) {
      total[ngram.count - 1] += count
      correct[ngram.count - 1] += min(count, clipped[ngram] ?? 0)
    }
    guard correct.contains(where: { $0 > 0 }) else { return 0 }
    // The reference length closest to the hypothesis', the shorter of two equally close.
    let lengths = others.map(\.count).sorted()
    let length = lengths.min { abs($0 - hypothesis.count) < abs($1 - hypothesis.count) } ?? 0
    let penalty = hypothesis.count < length ? Double.exp(1 - Double(length) / Double(hypothesis.count)) : 1
    var smoothing = 1.0
    var logarithms = 0.0
    var order = 0
    while order < highestOrder, total[order] > 0 {
      if correct[order] == 0 {
        smoothing *= 2
        logarithms += Double.log(1 / (smoothing * Double(total[order])))
      } else {
        logarithms += Double.log(Double(correct[order]) / Double(total[order]))
      }
      order += 1
    }
    return penalty * Double.exp(logarithms / Double(order))
  }

  private static func ngrams(_ words: [ScalarText]) -> [ArraySlice<ScalarText>: Int] {
    var counts: [ArraySlice<ScalarText>: Int] = [:]
    for order in 1...highestOrder where words.count >= order {
      for start in 0...(words.count - order) { counts[words[start..<start + order], default: 0] += 1 }
    }
    return counts
  }

  /// The tokens of mteval-v13a: punctuation stands alone, but for periods and commas between digits.
  static func tokens(_ text: String) -> [ScalarText] {
    var line = text
    while let last = line.unicodeScalars.last, last.isSeparator {
      line.unicodeScalars.removeLast()
    }
    for (pattern, replacement) in [("<skipped>", ""), ("-\n", ""), ("\n", " ")] {
      line = line.replacingOccurrences(of: pattern, with: replacement, options: .literal)
    }
    if line.contains("&") {
      for (pattern, replacement) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = line.replacingOccurrences(of: pattern, with: replacement, options: .literal)
      }
    }
    var scalars = Array(" \(line) ".unicodeScalars)
    scalars = scalars.flatMap { isSymbol($0) ? [" ", $0, " "] : [$0] }
    // Each pass consumes the pair it rewrites, so a run such as "..," is split as the reference does it.
    scalars = rewritePairs(scalars, where: { !isDigit($0) && isPoint($1) }, as: { [$0, " ", $1, " "] })
    scalars = rewritePairs(scalars, where: { isPoint($0) && !isDigit($1) }, as: { [" ", $0, " ", $1] })
    scalars = rewritePairs(scalars, where: { isDigit($0) && $1 == "-" }, as: { [$0, " ", $1, " "] })
    return scalars.split { $0.isSeparator }.map { ScalarText($0) }
  }

  private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { scalar >= "0" && scalar <= "9" }

  private static func isPoint(_ scalar: Unicode.Scalar) -> Bool { scalar == "." || scalar == "," }

  /// ASCII punctuation but for ' , - . which have rules of their own, and the space.
  private static func isSymbol(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x20...0x26, 0x28...0x2B, 0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: true
    default: false
    }
  }

  private static func rewritePairs(
    _ scalars: [Unicode.Scalar], where fits: (Unicode.Scalar, Unicode.Scalar) -> Bool,
    as rewritten: (Unicode.Scalar, Unicode.Scalar) -> [Unicode.Scalar]
  ) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(scalars.count * 2)
    var position = 0
    while position < scalars.count {
      if position + 1 < scalars.count, fits(scalars[position], scalars[position + 1]) {
        result += rewritten(scalars[position], scalars[position + 1])
        position += 2
      } else {
        result.append(scalars[position])
        position += 1
      }
    }
    return result
  }
}

/// chrF (Popović 2015) as sacreBLEU computes it: character n-grams of orders 1 to 6 without white space, β = 2.
public enum ChrF {
  private static let highestOrder = 6

  /// The score in [0, 1], the best over the references. O(characters · orders).
  public static func score(_ prediction: String, references: [String]) -> Double {
    let hypothesis = characters(prediction)
    return references.map { score(hypothesis, characters($0)) }.max() ?? 0
  }

  private static func characters(_ text: String) -> [Unicode.Scalar] {
    text.unicodeScalars.filter { !$0.isSeparator }
  }

  private static func score(_ hypothesis: [Unicode.Scalar], _ reference: [Unicode.Scalar]) -> Double {
    var (precision, recall, orders) = (0.0, 0.0, 0.0)
    for order in 1...highestOrder where hypothesis.count >= order && reference.count >= order {
      var left = counts(reference, order)
      var hits = 0
      for start in 0...(hypothesis.count - order) {
        let ngram = hypothesis[start..<start + order]
        if let count = left[ngram], count > 0 {
          hits += 1
          left[ngram] = count - 1
        }
      }
      precision += Double(hits) / Double(hypothesis.count - order + 1)
      recall += Double(hits) / Double(reference.count - order + 1)
      orders += 1
    }
    guard precision + recall > 0 else { return 0 }
    precision /= orders
    recall /= orders
    return 5 * precision * recall / (4 * precision + recall)
  }

  private static func counts(_ text: [Unicode.Scalar], _ order: Int) -> [ArraySlice<Unicode.Scalar>: Int] {
    var counts: [ArraySlice<Unicode.Scalar>: Int] = [:]
    for start in 0...(text.count - order) { counts[text[start..<start + order], default: 0] += 1 }
    return counts
  }
}
