import Synchronization

/// What sessions of one strategy have learnt about acceptance and time, for those that begin later.
///
/// Of sessions that go on side by side, the one that ends last leaves what it knows. Outputs do not hang on it: only
/// drafts that keep the output have lengths that are chosen.
final class DraftKnowledge: Sendable {
  private let left = Mutex<DraftLengthController?>(nil)

  var controller: DraftLengthController? { left.withLock { $0 } }

  func leave(_ controller: DraftLengthController) { left.withLock { $0 = controller } }
}
