extension SequenceLoss {
  /// The share of documents on which a loss must say something.
  private static let leastTelling = 0.05

  /// Whether the metric can see anything in a text: a word of a-z and digits for ROUGE, a word that is no article for
  /// answers.
  public func sees(_ text: String) -> Bool {
    switch self {
    case .rouge(let rouge): !rouge.tokens(text).isEmpty
    case .tokenF1, .exactMatch: !AnswerMatch.words(text).isEmpty
    case .bleu: !Bleu.tokens(text).isEmpty
    case .chrF: text.unicodeScalars.contains { !$0.isSeparator }
    case .tokenDisagreement, .editDistance, .repetition, .unsupported: true
    }
  }

  /// Why a certificate in this metric would say nothing, judged by the references before anything is run; nil where
  /// it may say something.
  ///
  /// - Parameter references: Of each document.
  public func vacuity(references: [[String]]) -> String? {
    let seen = references.count { $0.contains { sees($0) } }
    guard Double(seen) < Self.leastTelling * Double(references.count) || seen == 0, !references.isEmpty else {
      return nil
    }
    let script =
      if case .rouge = self { " (it reads the letters a to z and digits, and nothing of other scripts)" } else
      { "" }
    return
      "\(name) sees no words in the references of \(references.count - seen) of "
      + "\(references.count) documents\(script): every "
      + "output would lose as much as any other, and every threshold would be certified; chrf or token-f1 may see them"
  }

  /// Why a certificate in this metric would say nothing, judged by the full model's losses against the references;
  /// nil where it may say something.
  ///
  /// - Parameter losses: Of each document; where the full model's is the worst there is, no output can do worse.
  public func vacuity(fullModelLosses losses: [Double]) -> String? {
    let telling = losses.count { $0 < 1 }
    guard Double(telling) < Self.leastTelling * Double(losses.count) || telling == 0, !losses.isEmpty else {
      return nil
    }
    return
      "the full model's own \(name) is the worst possible on \(losses.count - telling) of "
      + "\(losses.count) documents: no early "
      + "output can do worse there, and every threshold would be certified; take another metric, or documents that "
      + "the model can do"
  }
}
