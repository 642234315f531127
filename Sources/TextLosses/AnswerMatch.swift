import Foundation

/// Token F1 and exact match of short answers (Rajpurkar et al. 2016, SQuAD), texts compared scalar by scalar.
public enum AnswerMatch {
  /// The words of a text in lower case, without punctuation and articles.
  static func words(_ text: String) -> [ScalarText] {
    let punctuation = Set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".unicodeScalars)
    let kept = text.lowercasedScalars().filter { !punctuation.contains($0) }
    let articles: Set<[Unicode.Scalar]> = [["a"], ["a", "n"], ["t", "h", "e"]]
    // Articles stand between word boundaries, which white space is not the only kind of ("a–b").
    var rest: [Unicode.Scalar] = []
    var word: [Unicode.Scalar] = []
    func flush() {
      rest += articles.contains(word) ? [" "] : word
      word = []
    }
    for scalar in kept {
      if scalar.isWordPart {
        word.append(scalar)
      } else {
        flush()
        rest.append(scalar)
      }
    }
    flush()
    return rest.split { $0.isSeparator }.map { ScalarText($0) }
  }

  /// 1 where both are the same once normalised, else 0.
  public static func exactMatch(_ prediction: String, reference: String) -> Double {
    words(prediction) == words(reference) ? 1 : 0
  }

  /// The harmonic mean of precision and recall over normalised words; 0 where none is shared.
  public static func tokenF1(_ prediction: String, reference: String) -> Double {
    let (predicted, expected) = (words(prediction), words(reference))
    var left = Dictionary(expected.map { ($0, 1) }, uniquingKeysWith: +)
    var hits = 0
    for word in predicted {
      if let count = left[word], count > 0 {
        hits += 1
        left[word] = count - 1
      }
    }
    guard hits > 0 else { return 0 }
    let (precision, recall) = (Double(hits) / Double(predicted.count), Double(hits) / Double(expected.count))
    return 2 * precision * recall / (precision + recall)
  }
}
