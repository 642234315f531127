/// What decoding an output with early exits took, in counts: on no machine other than on any other. ``ExitCosts`` says
/// what it costs.
public struct ExitWork: Sendable, Equatable, Codable {
  /// Tokens after the first.
  public var tokens = 0
  /// Passes of one layer, by the number of tokens in the batch, from 1.
  public var layer: [Int] = []
  /// Runs of the model's own head.
  public var head = 0
  /// Runs of an exit's head.
  public var exitHead = 0
  /// Confidences that need no head.
  public var gate = 0
  /// Skipped layers whose keys and values were made.
  public var propagatedLayer = 0

  /// No work at all.
  public init() {}

  /// Adds passes of so many layers by a batch of so many tokens.
  mutating func add(layers: Int, rows: Int) {
    guard rows > 0, layers > 0 else { return }
    while layer.count < rows { layer.append(0) }
    layer[rows - 1] += layers
  }
}
