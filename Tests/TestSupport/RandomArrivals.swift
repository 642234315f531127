import Generation
import Transformers

/// Prompts that come, and some that leave, at random moments while others are decoded with them.
public struct RandomArrivals {
  public struct Order {
    public var prompt: [TokenID]
    public var options: GenerationOptions
    public var strategy: any DecodingStrategy
    /// After how many tokens it is given up; `nil` for never.
    public var leavesAfter: Int?

    public init(
      prompt: [TokenID], options: GenerationOptions, strategy: any DecodingStrategy, leavesAfter: Int? = nil
    ) {
      self.prompt = prompt
      self.options = options
      self.strategy = strategy
      self.leavesAfter = leavesAfter
    }
  }

  /// What came of an order; the generation is `nil` where it was given up.
  public struct Result: Equatable {
    public var steps: [TokenStep] = []
    public var generation: Generation?
  }

  public let model: LanguageModel
  public let orders: [Order]

  public init(model: LanguageModel, orders: [Order]) {
    self.model = model
    self.orders = orders
  }

  /// Every order by itself.
  public func alone() throws -> [Result] {
    try orders.map { order in
      let session = try order.strategy.makeSession(
        model: model, prompt: order.prompt, options: order.options, shouldStop: { false })
      var result = Result()
      while let step = try session.next() { result.steps.append(step) }
      if let count = order.leavesAfter, count <= result.steps.count {
        result.steps.removeSubrange(count...)
      } else {
        result.generation = session.generation
      }
      return result
    }
  }

  /// All of them in one batch decoder.
  ///
  /// - Parameter prefixes: Where beginnings are kept for prompts that begin alike.
  public func together(width: Int, promptParts: Int? = 1, prefixes: PrefixCache? = nil, seed: UInt64) throws
    -> [Result]
  {
    let batch = BatchDecoder(
      model: model, width: width, promptParts: promptParts, prefixes: prefixes, shouldStop: { false })
    var results = orders.map { _ in Result() }
    var random = SplitMix64(seed: seed)
    var next = 0
    while next < orders.count || !batch.isIdle {
      while next < orders.count, random.next() % 3 == 0 {
        let order = orders[next]
        batch.submit(prompt: order.prompt, options: order.options, strategy: order.strategy)
        next += 1
      }
      try batch.step { ticket, event in
        switch event {
        case .token(let step):
          results[ticket].steps.append(step)
          if results[ticket].steps.count == orders[ticket].leavesAfter { batch.cancel(ticket) }
        case .finished(let generation): results[ticket].generation = generation
        case .failed(let error): throw error
        }
      }
    }
    return results
  }
}
