import Foundation
import Transformers

/// Works through many documents, decoding several at a time.
///
/// Every output is the one that the document gets by itself.
public final class DocumentBatch {
  /// A document and what is asked about it.
  public struct Item: Sendable, Equatable {
    /// What is asked.
    public var task: DocumentTask
    /// The document's text.
    public var document: String

    /// Puts an item together.
    public init(task: DocumentTask, document: String) {
      self.task = task
      self.document = document
    }
  }

  /// What happens while a batch runs.
  public enum Event: Sendable, Equatable {
    /// A document had to be made to fit.
    case note(item: Int, LongDocumentNote)
    /// A document's output is complete. Events of this kind come in the order of the documents.
    case finished(item: Int, Generation)
  }

  /// A document under way: outputs of its parts so far, by ticket.
  private struct Job {
    var item: Int
    /// As it is asked: see ``LanguageModel/completed(_:document:)``.
    var task: DocumentTask
    var options: GenerationOptions
    var round = 0
    var tickets: [BatchDecoder.Ticket] = []
    var outputs: [BatchDecoder.Ticket: Generation] = [:]
    var isWhole = false
    /// Whether the document had to be made to fit, where strategies are for whole documents only.
    var isUncovered = false
  }

  /// Sequences to decode at a time unless told otherwise.
  public static let usualWidth = 16

  private let model: LanguageModel
  private let options: GenerationOptions
  private let rule: LongDocumentRule
  private let raw: Bool
  private let strategy: any DecodingStrategy
  private let wholeOnly: Bool
  private let shouldStop: () -> Bool
  private let decoder: BatchDecoder
  private let prefixes: PrefixCache
  private var jobs: [Int: Job] = [:]
  private var owner: [BatchDecoder.Ticket: Int] = [:]

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - options: How outputs, and the outputs of parts, are generated.
  ///   - strategy: How each output comes about.
  ///   - wholeOnly: Decodes documents that had to be made to fit, and their parts, at full depth, as for a certificate,
  ///     which says nothing about them.
  ///   - rule: What happens to a document that does not fit the context.
  ///   - raw: Leaves the prompt template out.
  ///   - width: Sequences to decode at a time.
  ///   - shouldStop: Asked before each token.
  public init(
    model: LanguageModel, options: GenerationOptions, strategy: any DecodingStrategy = FullDepth(),
    wholeOnly: Bool = false, rule: LongDocumentRule = .split, raw: Bool = false, width: Int = usualWidth,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) {
    self.model = model
    self.options = options
    self.rule = rule
    self.raw = raw
    self.strategy = strategy
    self.wholeOnly = wholeOnly
    self.shouldStop = shouldStop
    prefixes = PrefixCache(byteLimit: Int(min(ProcessInfo.processInfo.physicalMemory / 32, 1 << 29)))
    decoder = BatchDecoder(model: model, width: width, prefixes: prefixes, shouldStop: shouldStop)
  }

  /// Tokens of prompts that were not read because another prompt began with them: those of a document about which
  /// several things are asked.
  public var sharedTokens: Int { prefixes.reusedTokens }

  /// Tokens generated so far.
  public var tokenCount: Int { decoder.tokenCount }

  /// Runs all documents.
  ///
  /// - Parameters:
  ///   - items: The documents, each with what is asked about it.
  ///   - observe: Told of every event; what it throws ends the run.
  /// - Returns: Whether all were finished; `false` when `shouldStop` said so before.
  /// - Throws: ``DocumentBatchError`` naming the document at fault.
  public func run(_ items: [Item], observe: (Event) throws -> Void) throws -> Bool {
    var next = 0
    var reported = 0
    var done: [Int: Generation] = [:]
    while reported < items.count {
      if shouldStop() { return false }
      // Prompts are made only when there is room, so that memory does not grow with the number of documents.
      while next < items.count, decoder.hasRoom {
        let item = items[next]
        let job = Job(
          item: next, task: model.completed(item.task, document: item.document),
          options: try model.options(options, for: item.task, document: item.document, raw: raw))
        try start(job, document: item.document, observe: observe)
        next += 1
      }
      for (ticket, generation) in try decoder.step() {
        guard let index = owner.removeValue(forKey: ticket), var job = jobs[index] else { continue }
        job.outputs[ticket] = generation
        jobs[index] = job
        guard job.outputs.count == job.tickets.count else { continue }
        jobs[index] = nil
        if job.isWhole {
          done[index] = generation
        } else {
          let document = LanguageModel.join(job.tickets.compactMap { job.outputs[$0] })
          job.round += 1
          try start(job, document: document, observe: observe)
        }
      }
      while let generation = done.removeValue(forKey: reported) {
        try observe(.finished(item: reported, generation))
        reported += 1
      }
    }
    return true
  }

  private func start(_ job: Job, document: String, observe: (Event) throws -> Void) throws {
    var job = job
    job.outputs = [:]
    let plan: DocumentPlan
    do {
      plan = try model.plan(
        job.task, document: document, options: job.options, rule: model.roundRule(rule, job.round), raw: raw)
    } catch {
      throw DocumentBatchError(item: job.item, underlying: error)
    }
    // What parts were made of stays at full depth: the text of their summaries is no document of the kind.
    if wholeOnly, plan.note != nil {
      job.isUncovered = true
      job.options = job.options.atFullDepth
    }
    let strategy = job.isUncovered ? FullDepth() : strategy
    switch plan {
    case .whole(let prompt, let note):
      if let note { try observe(.note(item: job.item, note)) }
      job.isWhole = true
      job.tickets = [decoder.submit(prompt: prompt, options: job.options, strategy: strategy)]
    case .parts(let parts, let note):
      try observe(.note(item: job.item, note))
      job.tickets = parts.map { part in
        let options = job.isUncovered ? part.options.atFullDepth : part.options
        return decoder.submit(prompt: part.prompt, options: options, strategy: strategy)
      }
    }
    for ticket in job.tickets { owner[ticket] = job.item }
    jobs[job.item] = job
  }
}

/// A document of a batch that could not be worked on.
public struct DocumentBatchError: Error, CustomStringConvertible {
  /// Its place in the batch, from 0.
  public var item: Int
  /// What went wrong.
  public var underlying: any Error

  /// The error as a sentence for a person; documents are counted from 1.
  public var description: String { "document \(item + 1): \(underlying)" }
}
