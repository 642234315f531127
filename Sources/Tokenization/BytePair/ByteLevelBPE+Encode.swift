extension ByteLevelBPE {
  /// The tokens of a text; see ``Tokenizer/encode(_:special:)-([UInt8],_)``. Never throws.
  ///
  /// User-defined tokens are found in either case, unless their name is in angle brackets: to the model they are text
  /// that is never cut.
  ///
  /// - Complexity: O(*n* log *n*) for one word of *n* bytes, O(*n*) for text of short words.
  public func encode(_ utf8: [UInt8], special: SpecialTokenHandling) -> [Int] {
    let vocabulary = vocabulary
    let specials = special == .recognize ? vocabulary.allSpecials : vocabulary.textSpecials
    return utf8.withUnsafeBufferPointer { text in
      CharacterClass.table.withUnsafeBufferPointer { classes in
        vocabulary.byteTokens.withUnsafeBufferPointer { byteTokens in
          vocabulary.mergedTokens.withUnsafeBufferPointer { mergedTokens in
            vocabulary.pairs.withPointers { pairs in
              var encoder = BPEEncoder(
                vocabulary: vocabulary, pairs: pairs, mergedTokens: mergedTokens, byteTokens: byteTokens)
              encoder.output.reserveCapacity(utf8.count / 3 + 8)
              let scanner = WordScanner(text: text, classes: classes, preTokenizer: vocabulary.preTokenizer)
              if specials.isEmpty {
                encoder.encodeText(text, 0..<text.count, scanner)
              } else {
                encoder.encode(text, scanner, specials)
              }
              return encoder.output
            }
          }
        }
      }
    }
  }
}

/// One pass over one text; the pointers must outlive it.
private struct BPEEncoder {
  let vocabulary: BPEVocabulary
  let byteTokens: UnsafeBufferPointer<Int32>
  private var merger: BPEMerger
  var output: [Int] = []

  init(
    vocabulary: BPEVocabulary, pairs: PairTable.Pointers, mergedTokens: UnsafeBufferPointer<Int32>,
    byteTokens: UnsafeBufferPointer<Int32>
  ) {
    self.vocabulary = vocabulary
    self.byteTokens = byteTokens
    merger = BPEMerger(pairs: pairs, mergedTokens: mergedTokens)
  }

  /// Cuts the text at special tokens, the longest name first where several start at one place.
  mutating func encode(
    _ text: UnsafeBufferPointer<UInt8>, _ scanner: WordScanner, _ specials: SpecialTokenTrie
  ) {
    var start = 0
    var position = 0
    while position < text.count {
      if let (token, length) = specials.longestMatch(text, at: position) {
        encodeText(text, start..<position, scanner)
        output.append(token)
        position += length
        start = position
      } else {
        position += 1
      }
    }
    encodeText(text, start..<text.count, scanner)
  }

  mutating func encodeText(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ scanner: WordScanner) {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = scanner.endOfWord(at: start, limit: range.upperBound)
      encodeWord(UnsafeBufferPointer(rebasing: text[start..<end]))
      start = end
    }
  }

  private mutating func encodeWord(_ word: UnsafeBufferPointer<UInt8>) {
    if vocabulary.ignoresMerges, word.count <= BPEVocabulary.maximumTokenLength {
      let token = vocabulary.texts.withUnsafeBufferPointer { texts in
        vocabulary.starts.withUnsafeBufferPointer { starts in vocabulary.index.find(word, texts, starts) }
      }
      if let token {
        output.append(token)
        return
      }
    }
    merger.symbols.removeAll(keepingCapacity: true)
    for byte in word where byteTokens[Int(byte)] >= 0 {
      merger.symbols.append(byteTokens[Int(byte)])
    }
    let count = merger.merge()
    for position in 0..<count {
      output.append(Int(merger.symbols[position]))
    }
  }
}
