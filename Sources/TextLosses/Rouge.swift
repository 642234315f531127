/// ROUGE F-measures (Lin 2004) as Google's rouge-score computes them.
public struct Rouge: Sendable, Equatable {
  /// What is counted.
  public enum Variant: String, Sendable, Equatable, CaseIterable {
    /// Common words.
    case rouge1 = "rouge-1"
    /// Common pairs of neighbouring words.
    case rouge2 = "rouge-2"
    /// The longest common subsequence of words.
    case rougeL = "rouge-l"
    /// The union of longest common subsequences of sentences, one a line.
    case rougeLsum = "rouge-lsum"
  }

  /// What is counted.
  public let variant: Variant
  /// Whether words of more than three letters are stemmed first.
  public let stemming: Bool

  /// A variant of ROUGE.
  public init(_ variant: Variant, stemming: Bool = false) {
    self.variant = variant
    self.stemming = stemming
  }

  /// The F-measure in [0, 1]; 0 where either text has no words. O(words²) for the longest common subsequences.
  public func score(_ prediction: String, reference: String) -> Double {
    if variant == .rougeLsum {
      // Sentences come one a line, as in the reference scorer.
      func sentences(_ text: String) -> [[String]] {
        text.unicodeScalars.split(separator: "\n").map { tokens(String(String.UnicodeScalarView($0))) }
      }
      return summaryLevel(sentences(prediction), reference: sentences(reference))
    }
    let (predicted, expected) = (tokens(prediction), tokens(reference))
    switch variant {
    case .rouge1: return ngrams(predicted, expected, order: 1)
    case .rouge2: return ngrams(predicted, expected, order: 2)
    case .rougeL, .rougeLsum:
      guard !predicted.isEmpty, !expected.isEmpty else { return 0 }
      let table = Subsequences(expected, predicted)
      return fMeasure(table.length, predicted.count, expected.count)
    }
  }

  /// The best score against several references; 0 where there is none.
  public func score(_ prediction: String, references: [String]) -> Double {
    references.map { score(prediction, reference: $0) }.max() ?? 0
  }

  /// Lower-case runs of ASCII letters and digits.
  package func tokens(_ text: String) -> [String] {
    let isWord = { (scalar: Unicode.Scalar) in
      scalar.value >= 0x61 && scalar.value <= 0x7A || scalar.value >= 0x30 && scalar.value <= 0x39
    }
    return text.lowercasedScalars().split { !isWord($0) }.map { scalars in
      var view = String.UnicodeScalarView()
      view.append(contentsOf: scalars)
      let word = String(view)
      return stemming && word.utf8.count > 3 ? PorterStemmer.stem(word) : word
    }
  }

  private func fMeasure(_ hits: Int, _ predicted: Int, _ expected: Int) -> Double {
    let precision = Double(hits) / Double(max(predicted, 1))
    let recall = Double(hits) / Double(max(expected, 1))
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0
  }

  private func ngrams(_ predicted: [String], _ expected: [String], order: Int) -> Double {
    func counts(_ words: [String]) -> [ArraySlice<String>: Int] {
      guard words.count >= order else { return [:] }
      return Dictionary((0...(words.count - order)).map { (words[$0..<$0 + order], 1) }, uniquingKeysWith: +)
    }
    let (found, wanted) = (counts(predicted), counts(expected))
    let hits = wanted.reduce(0) { $0 + min($1.value, found[$1.key] ?? 0) }
    return fMeasure(hits, max(predicted.count - order + 1, 0), max(expected.count - order + 1, 0))
  }

  private func summaryLevel(_ predicted: [[String]], reference expected: [[String]]) -> Double {
    let (found, wanted) = (predicted.joined().count, expected.joined().count)
    guard found > 0, wanted > 0 else { return 0 }
    // A word may be hit as often as both texts have it, however many sentences share it.
    var left = Dictionary(predicted.joined().map { ($0, 1) }, uniquingKeysWith: +)
    var right = Dictionary(expected.joined().map { ($0, 1) }, uniquingKeysWith: +)
    var hits = 0
    for sentence in expected {
      var union = Set<Int>()
      for other in predicted { union.formUnion(Subsequences(sentence, other).indices(sentence, other)) }
      for word in union.sorted().map({ sentence[$0] }) {
        guard let inPrediction = left[word], let inReference = right[word], inPrediction > 0, inReference > 0
        else { continue }
        hits += 1
        left[word] = inPrediction - 1
        right[word] = inReference - 1
      }
    }
    return fMeasure(hits, found, wanted)
  }
}

/// The table of longest common subsequences of all prefixes of two sequences, (first + 1, second + 1).
struct Subsequences {
  private var lengths: [Int32]
  private let columns: Int

  init<Token: Equatable>(_ first: [Token], _ second: [Token]) {
    columns = second.count + 1
    lengths = [Int32](repeating: 0, count: (first.count + 1) * columns)
    for i in first.indices {
      for j in second.indices {
        let above = (i + 1) * columns + j + 1
        lengths[above] =
          first[i] == second[j]
          ? lengths[i * columns + j] + 1 : max(lengths[i * columns + j + 1], lengths[(i + 1) * columns + j])
      }
    }
  }

  var length: Int { Int(lengths.last ?? 0) }

  /// Where one longest common subsequence lies in `first`. Which one matters for the union over sentences: the walk
  /// back prefers to drop a word of `first` on ties, as the reference scorer does.
  func indices<Token: Equatable>(_ first: [Token], _ second: [Token]) -> [Int] {
    var (i, j) = (first.count, second.count)
    var found: [Int] = []
    while i > 0, j > 0 {
      if first[i - 1] == second[j - 1] {
        found.append(i - 1)
        (i, j) = (i - 1, j - 1)
      } else if lengths[i * columns + j - 1] > lengths[(i - 1) * columns + j] {
        j -= 1
      } else {
        i -= 1
      }
    }
    return found
  }
}
