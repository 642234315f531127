import Transformers

/// Runs the passes of one sequence or of many: what several need at a time is read once for all of them.
///
/// The lowest rows go first, so that all that have to pass a layer meet at it, wherever their sequences left off: those
/// that leave early drop out, those that were deferred join. A pass costs each layer once for the whole batch, and
/// each head once for the rows that are looked at after the same layer.
package final class PassRunner {
  /// How a pass ended.
  package struct Outcome {
    /// Its share of the seconds that the model took: by rows, of each call.
    package var seconds = 0.0
    /// `nil` where it is whole.
    package var error: (any Error)?
  }

  private struct Task {
    var index: Int
    var work: PassWork
  }

  private var states: HiddenStates?
  private var numbers: [Float] = []
  private let clock = ContinuousClock()

  package init() {}

  /// Runs one pass to its end.
  ///
  /// - Returns: The seconds that the model took.
  package func run(_ work: PassWork?) throws -> Double {
    let outcome = run([work])[0]
    if let error = outcome.error { throw error }
    return outcome.seconds
  }

  /// Runs passes to their ends, together. One that fails by itself does not disturb the others; those that shared what
  /// failed all fail.
  package func run(_ works: [PassWork?]) -> [Outcome] {
    var outcomes = works.map { _ in Outcome() }
    var tasks = works.enumerated().compactMap { index, work in work.map { Task(index: index, work: $0) } }
    while let group = nextGroup(tasks) {
      let start = clock.now
      let counts: [Int]
      do {
        counts = try run(group, of: &tasks)
      } catch {
        for index in group { outcomes[tasks[index].index].error = error }
        remove(group, from: &tasks)
        continue
      }
      let share = (clock.now - start).seconds / Double(max(counts.reduce(0, +), 1))
      var over: [Int] = []
      var row = 0
      for (index, count) in zip(group, counts) {
        outcomes[tasks[index].index].seconds += share * Double(count)
        defer { row += count }
        do {
          guard let next = try goOn(tasks[index].work, row: row, count: count, rows: counts.reduce(0, +))
          else {
            over.append(index)
            continue
          }
          tasks[index].work = next
        } catch {
          outcomes[tasks[index].index].error = error
          over.append(index)
        }
      }
      remove(over, from: &tasks)
    }
    return outcomes
  }

  private func remove(_ indices: [Int], from tasks: inout [Task]) {
    for index in indices.reversed() { tasks.remove(at: index) }
  }

  /// Ascending indices of tasks that go next, together; `nil` when none are left.
  ///
  /// Heads go before layers of the same height: whoever leaves is then known before the next layer.
  private func nextGroup(_ tasks: [Task]) -> [Int]? {
    func rank(_ work: PassWork) -> (Int, Int) {
      if case .layers = work.kind { (work.height, 1) } else { (work.height, 0) }
    }
    guard let first = tasks.min(by: { rank($0.work) < rank($1.work) })?.work else { return nil }
    var group: [Int] = []
    var rows = 0
    for (index, task) in tasks.enumerated() where first.shares(task.work) {
      rows += task.work.rows.count
      // A single pass may have more: it would alone.
      if !group.isEmpty, rows > min(first.decoder.invariantBatchLimit, DecodingBuffers.prefillChunk) { break }
      group.append(index)
    }
    return group
  }

  /// Runs what a group needs, as far as all of it goes.
  ///
  /// - Returns: The rows of each that took part.
  private func run(_ group: [Int], of tasks: inout [Task]) throws -> [Int] {
    let first = tasks[group[0]].work
    let decoder = first.decoder
    let height = first.height
    let parts = group.map { index in
      let rows = tasks[index].work.rows
      guard case .layers = first.kind else { return 0..<rows.count }
      return (rows.firstIndex { $0.layer == height } ?? rows.count)..<rows.count
    }
    let rows = zip(group, parts).flatMap { index, part in tasks[index].work.rows[part] }
    switch first.kind {
    case .head(let matrix?):
      try decoder.product(matrix, of: rows.flatMap(\.state), into: &numbers)
    case .head(nil):
      let states = take(rows, decoder)
      try decoder.logits(of: states, rows: 0..<rows.count, into: &numbers)
    case .propagation:
      let layers = height..<decoder.configuration.layerCount
      try decoder.propagate(take(rows, decoder), rows: rows.map(\.place), layers: layers)
    case .layers:
      let target = stop(above: height, tasks.map(\.work).filter { $0.decoder === decoder })
      let states = take(rows, decoder)
      try decoder.advance(states, rows: rows.map(\.place), layers: height..<target)
      var row = 0
      for (index, part) in zip(group, parts) {
        for own in part {
          tasks[index].work.rows[own].state = states[row]
          tasks[index].work.rows[own].layer = target
          row += 1
        }
      }
    }
    return parts.map(\.count)
  }

  /// The next layer above a height where some row waits or arrives.
  private func stop(above height: Int, _ works: [PassWork]) -> Int {
    var stops: [Int] = []
    for work in works {
      if case .layers(let target) = work.kind { stops.append(target) }
      stops += work.rows.map(\.layer)
    }
    return stops.filter { $0 > height }.min() ?? height
  }

  private func take(_ rows: [LayeredRow], _ decoder: any DecoderModel) -> HiddenStates {
    let size = decoder.configuration.hiddenSize
    var found = states.flatMap { $0.hiddenSize == size && $0.capacity >= rows.count ? $0 : nil }
    if found == nil { found = HiddenStates(hiddenSize: size, capacity: max(rows.count, 32)) }
    let result = found ?? HiddenStates(hiddenSize: size, capacity: rows.count)
    result.set(rows.map(\.state))
    states = result
    return result
  }

  /// What a task needs next; `nil` at its end.
  ///
  /// - Parameters:
  ///   - row: Its first row among those that took part.
  ///   - rows: All of them.
  private func goOn(_ work: PassWork, row: Int, count: Int, rows: Int) throws -> PassWork? {
    switch work.kind {
    case .layers(let target):
      guard work.height >= target else { return work }
      return try work.then(work.rows, UnsafeBufferPointer(start: nil, count: 0))
    case .propagation:
      return try work.then(work.rows, UnsafeBufferPointer(start: nil, count: 0))
    case .head:
      let width = numbers.count / max(rows, 1)
      return try numbers.withUnsafeBufferPointer {
        try work.then(work.rows, UnsafeBufferPointer(rebasing: $0[row * width..<(row + count) * width]))
      }
    }
  }
}
