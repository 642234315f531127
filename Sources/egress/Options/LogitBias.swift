import ArgumentParser

/// What is added to the logit of a token: `TOKEN=NUMBER`.
struct LogitBias: ExpressibleByArgument {
  var token: Int
  var amount: Float

  init?(argument: String) {
    let sides = argument.split(separator: "=", omittingEmptySubsequences: false)
    guard sides.count == 2, let token = Int(sides[0]), token >= 0, let amount = Float(sides[1]),
      amount.isFinite || amount == -.infinity
    else { return nil }
    self.token = token
    self.amount = amount
  }
}
