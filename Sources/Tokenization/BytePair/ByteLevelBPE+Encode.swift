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
  let pairs: PairTable.Pointers
  let mergedTokens: UnsafeBufferPointer<Int32>
  let byteTokens: UnsafeBufferPointer<Int32>
  var output: [Int] = []
  /// The tokens of the word at hand.
  private var symbols: [Int32] = []
  /// ranks[i] is the rank of the merge of symbols i and i + 1.
  private var ranks: [Int32] = []

  /// Words up to this length are merged by scanning for the lowest rank: quadratic, but without a queue.
  private static let scanLimit = 32

  init(
    vocabulary: BPEVocabulary, pairs: PairTable.Pointers, mergedTokens: UnsafeBufferPointer<Int32>,
    byteTokens: UnsafeBufferPointer<Int32>
  ) {
    self.vocabulary = vocabulary
    self.pairs = pairs
    self.mergedTokens = mergedTokens
    self.byteTokens = byteTokens
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
    symbols.removeAll(keepingCapacity: true)
    for byte in word where byteTokens[Int(byte)] >= 0 {
      symbols.append(byteTokens[Int(byte)])
    }
    let count = symbols.count > Self.scanLimit ? mergeWithQueue() : mergeByScanning()
    for position in 0..<count {
      output.append(Int(symbols[position]))
    }
  }

  /// Merges `symbols` in place.
  ///
  /// - Returns: The number of symbols left, at the start of `symbols`.
  private mutating func mergeByScanning() -> Int {
    var count = symbols.count
    guard count > 1 else { return count }
    ranks.removeAll(keepingCapacity: true)
    for position in 1..<count {
      ranks.append(pairs.rank(symbols[position - 1], symbols[position]))
    }
    return symbols.withUnsafeMutableBufferPointer { symbols in
      ranks.withUnsafeMutableBufferPointer { ranks in
        while count > 1 {
          var best = PairTable.noRank
          var left = 0
          for position in 0..<(count - 1) where ranks[position] < best {
            best = ranks[position]
            left = position
          }
          if best == PairTable.noRank { break }
          symbols[left] = mergedTokens[Int(best)]
          count -= 1
          for position in (left + 1)..<max(count, left + 1) {
            symbols[position] = symbols[position + 1]
            ranks[position - 1] = ranks[position]
          }
          if left > 0 {
            ranks[left - 1] = pairs.rank(symbols[left - 1], symbols[left])
          }
          if left < count - 1 {
            ranks[left] = pairs.rank(symbols[left], symbols[left + 1])
          }
        }
        return count
      }
    }
  }

  /// As ``mergeByScanning()``, with a queue of pairs by rank, then from left to right, over a linked list.
  private mutating func mergeWithQueue() -> Int {
    let count = symbols.count
    ranks.removeAll(keepingCapacity: true)
    var queue = MergeQueue()
    for position in 1..<count {
      let rank = pairs.rank(symbols[position - 1], symbols[position])
      ranks.append(rank)
      if rank != PairTable.noRank { queue.appendUnordered(rank, position - 1) }
    }
    queue.order()
    ranks.append(PairTable.noRank)
    var next = Array(1...count)
    var previous = Array(-1..<(count - 1))
    symbols.withUnsafeMutableBufferPointer { symbols in
      ranks.withUnsafeMutableBufferPointer { ranks in
        next.withUnsafeMutableBufferPointer { next in
          previous.withUnsafeMutableBufferPointer { previous in
            while let (rank, left) = queue.popFirst() {
              // The pair may have been merged into another one since it was put in the queue.
              guard ranks[left] == rank else { continue }
              let right = next[left]
              symbols[left] = mergedTokens[Int(rank)]
              symbols[right] = -1
              ranks[right] = PairTable.noRank
              next[left] = next[right]
              if next[left] < count {
                previous[next[left]] = left
                ranks[left] = pairs.rank(symbols[left], symbols[next[left]])
                if ranks[left] != PairTable.noRank { queue.insert(ranks[left], left) }
              } else {
                ranks[left] = PairTable.noRank
              }
              let before = previous[left]
              if before >= 0 {
                ranks[before] = pairs.rank(symbols[before], symbols[left])
                if ranks[before] != PairTable.noRank { queue.insert(ranks[before], before) }
              }
            }
          }
        }
      }
    }
    var kept = 0
    for position in 0..<count where symbols[position] >= 0 {
      symbols[kept] = symbols[position]
      kept += 1
    }
    return kept
  }
}
