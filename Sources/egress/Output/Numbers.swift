import Foundation

/// How numbers are written for a person, everywhere.
extension Double {
  /// The number with that many digits after the point.
  func formatted(places: Int) -> String {
    guard isFinite, magnitude < 1e15 else { return "\(self)" }
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let scaled = Int((magnitude * scale).rounded())
    let (whole, fraction) = scaled.quotientAndRemainder(dividingBy: Int(scale))
    let digits = String(fraction)
    let sign = self < 0 && scaled != 0 ? "-" : ""
    guard places > 0 else { return "\(sign)\(whole)" }
    return "\(sign)\(whole)." + String(repeating: "0", count: places - digits.count) + digits
  }

  /// The same with its sign, + too.
  func formattedChange(places: Int) -> String { (self < 0 ? "-" : "+") + magnitude.formatted(places: places) }

  /// The number with at most that many significant digits.
  func formatted(significant digits: Int) -> String { String(format: "%.\(digits)g", self) }
}

extension Int {
  /// The number with a comma before each group of three digits.
  var grouped: String {
    let digits = String(magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
      text.append(digit)
    }
    return (self < 0 ? "-" : "") + text
  }
}
