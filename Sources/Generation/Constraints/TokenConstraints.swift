import Transformers

/// Which tokens may come next in an output, and which rather, by those that it has.
package struct TokenConstraints {
  private let spans: DocumentSpans?
  private var position: DocumentSpans.Position?
  private var written: OutputGrammar.Position?
  private let repetitionLength: Int?
  /// What is left of the tokens that the output begins with, the next one last.
  private var opening: [TokenID]
  private let forbiddenOpening: [TokenID]
  /// How many tokens the output has, while they are those of ``forbiddenOpening``; `nil` from the first other one on.
  private var opened: Int?
  private let floor: SentenceFloor?
  private var sentences: SentenceCount?
  /// As ``opened``, of a later sentence that may have begun.
  private var reopened: Int?
  private let endTokens: Set<TokenID>
  /// The token that may not be the first; `nil` for none, and from the second one on.
  private var barred: TokenID?
  /// Tokens that a bias rules out.
  private let banned: Set<TokenID>
  private var adjuster: LogitAdjuster?
  private var tokens: [TokenID] = []
  /// What has followed the last tokens so far, by the tokens of a run but its last.
  private var followers: [ArraySlice<TokenID>: Set<TokenID>] = [:]

  /// `nil` where every token may follow.
  ///
  /// - Parameters:
  ///   - prompt: What a penalty on repetition counts beside the output.
  ///   - limit: Tokens that the output may have.
  init?(_ options: GenerationOptions, endTokens: Set<TokenID>, prompt: [TokenID], limit: Int) {
    guard
      options.noRepeatNgram != nil || options.spans != nil || !options.opening.isEmpty
        || !options.forbiddenOpening.isEmpty || !options.adjustments.isEmpty || options.grammar != nil
        || options.leastLength != nil || options.answerability != nil
    else { return nil }
    written = options.grammar.map { OutputGrammar.Position($0, limit: limit) }
    adjuster = options.adjustments.isEmpty ? nil : LogitAdjuster(options.adjustments, prompt: prompt)
    banned = Set(options.adjustments.bias.filter { $0.value == -.infinity }.keys)
    opening = banned.isDisjoint(with: options.opening) ? options.opening.reversed() : []
    forbiddenOpening = options.forbiddenOpening
    opened = forbiddenOpening.isEmpty ? nil : 0
    floor = options.leastLength
    sentences = floor.map { SentenceCount($0.table) }
    spans = options.spans
    position = spans?.start
    repetitionLength = options.noRepeatNgram
    self.endTokens = endTokens
  }

  /// Makes an output that has not begun the refusal, or none.
  ///
  /// It stays as it is where a bias rules out a token of the refusal.
  mutating func settle(_ rule: AnswerabilityRule, isAnswerable: Bool) {
    if isAnswerable {
      barred = rule.refusal.first
    } else if banned.isDisjoint(with: rule.refusal) {
      opening = rule.refusal.reversed()
    }
  }

  /// What is left of the tokens that the output begins with.
  var openingLeft: [TokenID] { opening.reversed() }

  /// Whether every token may come next, now and from now on.
  var isVacuous: Bool {
    opening.isEmpty && opened == nil && barred == nil && spans == nil && repetitionLength == nil
      && adjuster == nil && written == nil && sentences == nil
  }

  /// Whether a token may come next.
  func allows(_ token: TokenID) -> Bool {
    if let next = opening.last { return token == next }
    if token == barred { return false }
    if let written, !written.allows(token) { return false }
    if let opened, opened == forbiddenOpening.count - 1, token == forbiddenOpening[opened] { return false }
    if let floor, let sentences {
      if endTokens.contains(token), !floor.isReached(sentences) { return false }
      if let reopened, reopened == floor.forbiddenOpening.count - 1, token == floor.forbiddenOpening[reopened]
      {
        return false
      }
    }
    if let spans, position.flatMap({ spans.next($0, token) }) == nil { return false }
    guard let repetitionLength, tokens.count >= repetitionLength, !endTokens.contains(token) else {
      return true
    }
    return followers[tokens.suffix(repetitionLength - 1)]?.contains(token) != true
  }

  mutating func append(_ token: TokenID) {
    _ = opening.popLast()
    barred = nil
    adjuster?.append(token)
    written?.append(token)
    if let place = opened {
      let goesOn = place < forbiddenOpening.count - 1 && token == forbiddenOpening[place]
      opened = goesOn ? place + 1 : nil
    }
    if let spans { position = position.flatMap { spans.next($0, token) } }
    noteSentence(token)
    guard let repetitionLength else { return }
    tokens.append(token)
    if tokens.count >= repetitionLength {
      followers[tokens.suffix(repetitionLength).dropLast(), default: []].insert(token)
    }
  }

  private mutating func noteSentence(_ token: TokenID) {
    guard let floor, var count = sentences else { return }
    count.append(token)
    if let place = reopened {
      let goesOn = place < floor.forbiddenOpening.count - 1 && token == floor.forbiddenOpening[place]
      reopened = goesOn ? place + 1 : nil
    }
    // White space behind the end of a sentence may be the first of the tokens that may not follow.
    if count.endsWhole, reopened == nil, !floor.forbiddenOpening.isEmpty { reopened = 0 }
    sentences = floor.isPassed(count) ? nil : count
  }

  /// The place of the most probable token that may come next; of equal ones, the first. `nil` where none may.
  ///
  /// - Parameter candidates: The tokens that the logits are of; `nil` for the whole vocabulary.
  /// - Complexity: O(n), and a look at each token that is more probable than those allowed before it.
  func best(of logits: UnsafeBufferPointer<Float>, candidates: [TokenID]?) -> Int? {
    guard let adjuster else { return bestAllowed(logits, candidates) }
    return adjuster.adjusted(logits, candidates: candidates).withUnsafeBufferPointer {
      bestAllowed($0, candidates)
    }
  }

  private func bestAllowed(_ logits: UnsafeBufferPointer<Float>, _ candidates: [TokenID]?) -> Int? {
    var best: Int?
    for (place, logit) in logits.enumerated() {
      if let best, !(logit > logits[best]) { continue }
      if logit == -.infinity { continue }
      if logit.isNaN || !allows(candidates?[place] ?? place) { continue }
      best = place
    }
    return best
  }

  /// The logits with those of tokens that may not come next at minus infinity; `nil` where none may.
  func masked(_ logits: UnsafeBufferPointer<Float>, candidates: [TokenID]?) -> [Float]? {
    var isOpen = false
    var masked = adjuster?.adjusted(logits, candidates: candidates) ?? Array(logits)
    for place in masked.indices {
      if allows(candidates?[place] ?? place) {
        isOpen = isOpen || masked[place] > -Float.infinity
      } else {
        masked[place] = -.infinity
      }
    }
    return isOpen ? masked : nil
  }
}
