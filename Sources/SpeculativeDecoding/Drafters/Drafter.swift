import EarlyExit
import Generation
import Transformers

/// What a drafter expects to come next.
public struct Draft: Sendable, Equatable {
  /// The guessed tokens, in order; empty where there is no guess.
  public var tokens: [TokenID]
  /// Which of the drafter's kinds of guess this is, in 0..<``DrafterProfile/evidenceCount``: acceptance is tracked for
  /// each.
  public var evidence: Int
  /// Layers of the large model that the rows of ``DraftTarget/states`` have passed already: the last token of the text
  /// and the drafted ones after it, `tokens.count + 1` rows. 0 when there are none.
  public var layer: Int
  /// Seconds of the drafter's that went into keeping up with the text, and would have without a draft.
  public var cacheSeconds = 0.0
  /// Bytes of weights that the drafter read for it.
  public var bytesRead = 0

  /// Puts a draft together.
  public init(tokens: [TokenID] = [], evidence: Int = 0, layer: Int = 0) {
    self.tokens = tokens
    self.evidence = evidence
    self.layer = layer
  }
}

/// What a drafter may use of the large model's own decoding.
public struct DraftTarget {
  /// Keys and values of all of the text but its last token. What a drafter writes after them is verified or dropped.
  public let cache: KeyValueCache
  /// Where a drafter that runs the large model's first layers leaves the rows it ran.
  public let states: HiddenStates
  /// What another drafter expects to come next, if anything: a draft that begins with it may end there.
  public let guess: TokenID?

  package init(cache: KeyValueCache, states: HiddenStates, guess: TokenID? = nil) {
    self.cache = cache
    self.states = states
    self.guess = guess
  }
}

/// What is known of a drafter before it has drafted anything. Costs are in passes of the large model over one token.
public struct DrafterProfile: Sendable, Equatable {
  /// What its tokens are called in traces.
  public var writer: TokenSource.Writer
  /// Kinds of guess that differ in how often they are right, the surest last.
  public var evidenceCount: Int
  /// What one more drafted token costs; 0 for next to nothing, so that a draft may be made to see what it is worth.
  public var costPerToken: Double
  /// What verifying a draft of no tokens costs; below 1 when the drafter has run some of the layers.
  public var verifiedShare: Double
  /// The layers of the large model after which it reads the hidden states, which full depth alone gives.
  public var readsLayers: Set<Int>

  /// Describes a drafter; without further arguments one that costs nothing and verifies whole passes.
  public init(
    writer: TokenSource.Writer, evidenceCount: Int = 1, costPerToken: Double = 0, verifiedShare: Double = 1,
    readsLayers: Set<Int> = []
  ) {
    self.writer = writer
    self.evidenceCount = evidenceCount
    self.costPerToken = costPerToken
    self.verifiedShare = verifiedShare
    self.readsLayers = readsLayers
  }

  /// Whether it drafts from the large model's hidden states.
  var readsStates: Bool { !readsLayers.isEmpty }
  /// Whether it cannot draft where the large model's tokens leave early.
  var needsFullDepth: Bool { verifiedShare < 1 || readsStates }
}

/// Guesses the next tokens of one sequence. A drafter is owned by one session.
public protocol Drafter: AnyObject {
  /// What a session has to know of the drafter before it drafts.
  var profile: DrafterProfile { get }
  /// Guesses what follows `history`, the prompt and the output so far, which only grows from call to call, but for
  /// ``crop(to:)``.
  ///
  /// - Parameters:
  ///   - history: The prompt and the output so far.
  ///   - limit: At least 1.
  ///   - target: What the drafter may use of the large model.
  /// - Returns: At most `limit` tokens; none when there is no idea.
  func draft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Draft
  /// Is told of the hidden states of tokens that the large model has passed at full depth: of the prompt, part by part,
  /// and then of the history's tokens but the last. Each is told once, in order, and again only after ``crop(to:)``.
  ///
  /// - Parameters:
  ///   - states: By the layer that they come after, with those of ``DrafterProfile/readsLayers`` among them. Row i is
  ///     that of the token at `positions.lowerBound + i`.
  ///   - positions: Places in the history.
  func read(_ states: [Int: HiddenStates], positions: Range<Int>) throws
  /// Forgets all of the history but its first `count` tokens: decoding begins again from there.
  func crop(to count: Int)
}

extension Drafter {
  /// Does nothing: most drafters read no hidden states.
  public func read(_ states: [Int: HiddenStates], positions: Range<Int>) {}
}
