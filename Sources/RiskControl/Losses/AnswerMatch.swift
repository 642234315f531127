import Foundation

/// Token F1 and exact match of short answers (Rajpurkar et al. 2016, SQuAD).
public enum AnswerMatch {
  /// Lower case, without punctuation and articles, single spaces.
  public static func normalized(_ text: String) -> String {
    let punctuation = Set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".unicodeScalars)
    let kept = String.UnicodeScalarView(text.lowercased().unicodeScalars.filter { !punctuation.contains($0) })
    // Articles stand between word boundaries, which white space is not the only kind of ("a–b").
    var words = String.UnicodeScalarView()
    var word = String.UnicodeScalarView()
    func flush() {
      words.append(contentsOf: ["a", "an", "the"].contains(String(word)) ? " ".unicodeScalars : word)
      word = String.UnicodeScalarView()
    }
    for scalar in kept {
      if scalar.properties.isAlphabetic || scalar.properties.numericType != nil || scalar == "_" {
        word.append(scalar)
      } else {
        flush()
        words.append(scalar)
      }
    }
    flush()
    return words.split { $0.properties.isWhitespace }.map { String(String.UnicodeScalarView($0)) }.joined(
      separator: " ")
  }

  /// 1 where both are the same once normalised, else 0.
  public static func exactMatch(_ prediction: String, reference: String) -> Double {
    normalized(prediction) == normalized(reference) ? 1 : 0
  }

  /// The harmonic mean of precision and recall over normalised words; 0 where none is shared.
  public static func tokenF1(_ prediction: String, reference: String) -> Double {
    let predicted = normalized(prediction).split(separator: " ")
    let expected = normalized(reference).split(separator: " ")
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
