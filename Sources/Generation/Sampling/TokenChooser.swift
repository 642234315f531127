import RealModule
import Transformers

/// Chooses tokens for one sequence; owns the sequence's random numbers.
struct TokenChooser {
  private let sampling: Sampling
  private var generator: SamplingGenerator
  /// Token numbers, a binary heap while candidates are drawn in order of their logits: (vocabularySize).
  private var heap: [Int32] = []
  private var weights: [Double] = []

  init(_ sampling: Sampling) {
    self.sampling = sampling
    if case .random(let random) = sampling {
      generator = SamplingGenerator(seed: random.seed)
    } else {
      generator = SamplingGenerator(seed: 0)
    }
  }

  /// The next token, from logits of shape (vocabularySize).
  ///
  /// - Complexity: O(n) for greedy, and O(n + k log n) when k candidates pass the filters.
  mutating func choose(from logits: UnsafeBufferPointer<Float>) -> TokenID {
    switch sampling {
    case .greedy: Logits.argmax(logits)
    case .random(let random): draw(from: logits, random)
    }
  }

  /// The place of the next token among those that may come next, or `nil` where none may.
  ///
  /// - Parameter candidates: The tokens that the logits are of; `nil` for the whole vocabulary.
  mutating func choose(
    from logits: UnsafeBufferPointer<Float>, of candidates: [TokenID]?, _ constraints: TokenConstraints?
  ) -> Int? {
    guard let constraints else { return choose(from: logits) }
    if case .greedy = sampling { return constraints.best(of: logits, candidates: candidates) }
    return constraints.masked(logits, candidates: candidates)?.withUnsafeBufferPointer { choose(from: $0) }
  }

  private mutating func draw(from logits: UnsafeBufferPointer<Float>, _ random: RandomSampling) -> TokenID {
    let temperature = Double(random.temperature)
    let largest = Double(logits[Logits.argmax(logits)])
    func weight(_ token: Int) -> Double {
      let value = Double.exp((Double(logits[token]) - largest) / temperature)
      return value.isFinite ? value : 0
    }
    let minimum = Double(random.minP ?? 0)

    if random.topK == nil, random.topP == nil {
      weights.removeAll(keepingCapacity: true)
      for token in logits.indices {
        let value = weight(token)
        weights.append(value >= minimum ? value : 0)
      }
      return pick { $0 }
    }

    // Candidates leave the heap in order; most often a few dozen of them are all that is looked at.
    makeHeap(logits)
    weights.removeAll(keepingCapacity: true)
    var candidates: [Int] = []
    let most = min(random.topK ?? logits.count, logits.count)
    let total: Double
    if random.topK != nil {
      for _ in 0..<most { candidates.append(popLargest(logits)) }
      weights.append(contentsOf: candidates.map(weight))
      total = weights.reduce(0, +)
    } else {
      total = logits.indices.reduce(0) { $0 + weight($1) }
    }
    let wanted = Double(random.topP ?? 1) * total
    var mass = 0.0
    var kept = 0
    while kept < most {
      if kept == candidates.count {
        candidates.append(popLargest(logits))
        weights.append(weight(candidates[kept]))
      }
      // The most probable token always stays, whatever the filters say.
      if kept > 0, mass >= wanted || weights[kept] < minimum { break }
      mass += weights[kept]
      kept += 1
    }
    weights.removeSubrange(kept...)
    return pick { candidates[$0] }
  }

  /// Draws an index with probability proportional to `weights`.
  private mutating func pick(_ token: (Int) -> TokenID) -> TokenID {
    var left = generator.uniform() * weights.reduce(0, +)
    var last = 0
    for (index, weight) in weights.enumerated() where weight > 0 {
      last = index
      left -= weight
      if left < 0 { break }
    }
    return token(last)
  }

  // MARK: Heap of token numbers, largest logit first, lowest number first among equals

  private mutating func makeHeap(_ logits: UnsafeBufferPointer<Float>) {
    heap = (0..<Int32(logits.count)).map { $0 }
    for place in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(place, logits) }
  }

  private mutating func popLargest(_ logits: UnsafeBufferPointer<Float>) -> Int {
    let top = Int(heap[0])
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      siftDown(0, logits)
    }
    return top
  }

  private mutating func siftDown(_ start: Int, _ logits: UnsafeBufferPointer<Float>) {
    heap.withUnsafeMutableBufferPointer { heap in
      func precedes(_ a: Int32, _ b: Int32) -> Bool {
        let (x, y) = (logits[Int(a)], logits[Int(b)])
        return x > y || (x == y && a < b)
      }
      var place = start
      while true {
        var child = 2 * place + 1
        guard child < heap.count else { return }
        if child + 1 < heap.count, precedes(heap[child + 1], heap[child]) { child += 1 }
        guard precedes(heap[child], heap[place]) else { return }
        heap.swapAt(child, place)
        place = child
      }
    }
  }
}
