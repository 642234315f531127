/// What a mistyped name may have meant.
enum Suggestion {
  /// " (did you mean …?)" when the name is nearly one of those known, or nothing.
  static func text(for name: String, among known: [String]) -> String {
    let wanted = Array(name.lowercased())
    let near = known.map { ($0, distance(wanted, Array($0.lowercased()))) }
      .filter { $0.1 <= max(2, wanted.count / 3) || $0.0.hasPrefix(name.lowercased()) }
    guard !wanted.isEmpty, let best = near.min(by: { $0.1 < $1.1 }) else { return "" }
    return " (did you mean \(best.0)?)"
  }

  /// Insertions, deletions and substitutions that make one text of the other (Levenshtein, 1966). O(nm) time.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var row = Array(0...b.count)
    for (i, left) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, right) in b.enumerated() {
        let substitution = diagonal + (left == right ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(substitution, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}
