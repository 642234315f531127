/// Finds the words of a text; the pointers must outlive it.
struct WordScanner {
  /// UTF-8; bytes that are not are scalars of one byte in class `other`.
  let text: UnsafeBufferPointer<UInt8>
  /// ``CharacterClass/table``.
  let classes: UnsafeBufferPointer<UInt8>
  let preTokenizer: PreTokenizer

  /// The end of the word that starts at `start` < `limit`, in a text that ends at `limit`.
  func endOfWord(at start: Int, limit: Int) -> Int {
    switch preTokenizer {
    case .gpt2: endOfPlainWord(start, limit, numbersApart: false)
    case .smolLM: endOfPlainWord(start, limit, numbersApart: true)
    case .llama3: endOfModernWord(start, limit, digitsPerWord: 3)
    case .qwen2: endOfModernWord(start, limit, digitsPerWord: 1)
    }
  }

  /// GPT-2's expression. With `numbersApart`, a number is a word and the text around it ends there, as if cut before.
  @inline(__always)
  private func endOfPlainWord(_ start: Int, _ limit: Int, numbersApart: Bool) -> Int {
    let (first, firstLength) = scalar(start, limit)
    let next = start + firstLength
    if numbersApart, first == CharacterClass.number {
      return next
    }
    if text[start] == UInt8(ascii: "'") {
      let length = contraction(after: next, limit, ignoringCase: false)
      if length > 0 { return next + length }
    }
    // ` ?\p{L}+`, ` ?\p{N}+` and ` ?[^\s\p{L}\p{N}]+` differ in the class alone.
    if first < CharacterClass.space {
      return endOfRun(first, next, limit)
    }
    if text[start] == UInt8(ascii: " "), next < limit {
      let (second, secondLength) = scalar(next, limit)
      if second < CharacterClass.space, !(numbersApart && second == CharacterClass.number) {
        return endOfRun(second, next + secondLength, limit)
      }
    }
    let run = whiteSpaceRun(start, limit)
    if numbersApart, run.end < limit, scalar(run.end, limit).class == CharacterClass.number {
      return run.end
    }
    return endOfWhiteSpace(run, start, limit)
  }

  /// The expression of Llama 3 and Qwen 2.
  @inline(__always)
  private func endOfModernWord(_ start: Int, _ limit: Int, digitsPerWord: Int) -> Int {
    let (first, firstLength) = scalar(start, limit)
    let next = start + firstLength
    if text[start] == UInt8(ascii: "'") {
      let length = contraction(after: next, limit, ignoringCase: true)
      if length > 0 { return next + length }
    }
    if first == CharacterClass.letter {
      return endOfRun(CharacterClass.letter, next, limit)
    }
    if first == CharacterClass.number {
      var end = next
      for _ in 1..<max(1, digitsPerWord) where end < limit {
        let (following, length) = scalar(end, limit)
        guard following == CharacterClass.number else { break }
        end += length
      }
      return end
    }
    // `[^\r\n\p{L}\p{N}]?\p{L}+` with its optional scalar, then ` ?[^\s\p{L}\p{N}]+[\r\n]*`.
    var symbols: Int? = first == CharacterClass.other ? next : nil
    if next < limit, first != CharacterClass.lineEnd {
      let (second, secondLength) = scalar(next, limit)
      if second == CharacterClass.letter {
        return endOfRun(CharacterClass.letter, next + secondLength, limit)
      }
      if text[start] == UInt8(ascii: " "), second == CharacterClass.other {
        symbols = next + secondLength
      }
    }
    if let symbols {
      var end = endOfRun(CharacterClass.other, symbols, limit)
      while end < limit, text[end] == 0x0A || text[end] == 0x0D {
        end += 1
      }
      return end
    }
    let run = whiteSpaceRun(start, limit)
    if run.afterLastLineEnd > start {
      return run.afterLastLineEnd  // `\s*[\r\n]+`
    }
    return endOfWhiteSpace(run, start, limit)
  }

  /// `\s+(?!\S)|\s+` for a run from `start`: all of it at the end of the text, else all but the last scalar, which
  /// belongs to the word that follows; a single scalar is a word of its own.
  @inline(__always)
  private func endOfWhiteSpace(_ run: WhiteSpaceRun, _ start: Int, _ limit: Int) -> Int {
    run.end == limit || run.lastScalar == start ? run.end : run.lastScalar
  }

  private struct WhiteSpaceRun {
    var end: Int
    /// Where the last scalar of the run starts.
    var lastScalar: Int
    /// The end of the last line end in the run; the start of the run if there is none.
    var afterLastLineEnd: Int
  }

  private func whiteSpaceRun(_ start: Int, _ limit: Int) -> WhiteSpaceRun {
    var run = WhiteSpaceRun(end: start, lastScalar: start, afterLastLineEnd: start)
    while run.end < limit {
      let (current, length) = scalar(run.end, limit)
      guard current >= CharacterClass.space else { break }
      run.lastScalar = run.end
      run.end += length
      if current == CharacterClass.lineEnd {
        run.afterLastLineEnd = run.end
      }
    }
    return run
  }

  @inline(__always)
  private func endOfRun(_ wanted: UInt8, _ start: Int, _ limit: Int) -> Int {
    var end = start
    while end < limit {
      let (current, length) = scalar(end, limit)
      guard current == wanted else { break }
      end += length
    }
    return end
  }

  /// The length of what follows the apostrophe in `'s|'t|'re|'ve|'m|'ll|'d`, or 0.
  ///
  /// Without case, U+017F (ſ) equals s, as Unicode's simple case folding has it.
  private func contraction(after start: Int, _ limit: Int, ignoringCase: Bool) -> Int {
    guard start < limit else { return 0 }
    let mask: UInt8 = ignoringCase ? 0x20 : 0
    let first = text[start] | mask
    switch first {
    case UInt8(ascii: "s"), UInt8(ascii: "t"), UInt8(ascii: "m"), UInt8(ascii: "d"):
      return 1
    default:
      break
    }
    guard start + 1 < limit else { return 0 }
    if ignoringCase, text[start] == 0xC5, text[start + 1] == 0xBF {
      return 2
    }
    let second = text[start + 1] | mask
    switch (first, second) {
    case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
      (UInt8(ascii: "l"), UInt8(ascii: "l")):
      return 2
    default:
      return 0
    }
  }

  /// The class and the length in bytes of the scalar at `position` < `limit`.
  @inline(__always)
  private func scalar(_ position: Int, _ limit: Int) -> (class: UInt8, length: Int) {
    let lead = text[position]
    if lead < 0x80 {
      return (classes[Int(lead)], 1)
    }
    return longScalar(lead, position, limit)
  }

  private func longScalar(_ lead: UInt8, _ position: Int, _ limit: Int) -> (class: UInt8, length: Int) {
    let length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0
    guard length > 0, position + length <= limit else { return (CharacterClass.other, 1) }
    var value = Int(lead) & (0xFF >> (length + 1))
    for offset in 1..<length {
      let byte = text[position + offset]
      guard byte & 0xC0 == 0x80 else { return (CharacterClass.other, 1) }
      value = value << 6 | Int(byte & 0x3F)
    }
    return (value < classes.count ? classes[value] : CharacterClass.other, length)
  }
}
