/// Whether a document is like those that a policy was calibrated on.
public struct Applicability: Sendable, Equatable {
  /// Whether it is; where not, the document is decoded at full depth.
  public var isInside: Bool
  /// The share of held-back documents at least as unlike the others as this one, itself counted: small where it is
  /// unlike all.
  public var pValue: Double

  /// Puts a finding together.
  public init(isInside: Bool, pValue: Double) {
    self.isInside = isInside
    self.pValue = pValue
  }
}

/// Tells documents unlike those that a policy was calibrated on, from the prompt's own pass through the model.
///
/// A guarantee holds for documents like those of the calibration, and says nothing of others. The guard makes that part
/// of the policy: what it finds outside is decoded at full depth, with a loss of 0. It looks at the states after a
/// layer, usually the last, each divided by its root mean square, and takes their mean over the prompt. The score is
/// the Mahalanobis distance of that mean from the documents it was fitted on. Their covariance has a ridge on every
/// axis, a tenth of the mean eigenvalue. Beyond the ⌈(m + 1)(1 − α)⌉-th smallest score of m documents held back from
/// the fit a document is outside.
///
/// Fit it on documents apart from those that certify: for them the guarded policy is then fixed, and every rule holds
/// for it.
public struct ApplicabilityGuard: Sendable, Equatable {
  /// SHA-256 of the model whose states it reads, in hexadecimal.
  public let modelDigest: String
  /// SHA-256 of the prompts that it was made from, in hexadecimal.
  public let documentsDigest: String
  /// The layer whose states it reads; `nil` for the last.
  public let layer: Int?
  /// Documents of the fit.
  public let fittedCount: Int
  /// α: about this share of documents like those of the fit is taken for foreign.
  public let level: Double
  /// (hiddenSize)
  let center: [Float]
  /// W with (ρI + C)⁻¹ = (I − WᵀW) / ρ for the covariance C of the fit: (fittedCount, hiddenSize), row-major.
  let whitening: [Float]
  /// ρ
  let ridge: Float
  /// Scores of the documents that were held back, ascending.
  let heldBack: [Float]

  /// The ridge as a share of the mean eigenvalue of the covariance.
  ///
  /// The default model's states have a few directions that hold most of the variance. With a tenth on each axis, of 100
  /// abstracts against 100 held back, 95 to 100 % of other abstracts are inside and no news, dialogues or encyclopedia
  /// are.
  public static let ridgeShare = 0.1
  /// α, unless another is asked for.
  public static let usualLevel = 0.05
  /// The fewest documents to fit on, and to hold back.
  public static let fewestDocuments = 8
  /// The most bytes that a guard's file has: documents past that are left out of the fit.
  public static let largestFile = 2_000_000

  /// Documents that were held back.
  public var heldBackCount: Int { heldBack.count }

  /// The score beyond which a document is outside.
  var cutoff: Float {
    let rank = Int((Double(heldBack.count + 1) * (1 - level)).rounded(.up))
    return heldBack[min(max(rank, 1), heldBack.count) - 1]
  }

  /// Fits a guard.
  ///
  /// - Parameters:
  ///   - fitting: ``LanguageModel/promptProfile(_:layer:shouldStop:)`` of at least ``fewestDocuments`` documents.
  ///   - heldBack: Of as many others.
  ///   - layer: That of the profiles; `nil` for the last.
  ///   - level: α, above 0 and below 1. With m documents held back no smaller share than 1/(m + 1) can be told.
  ///   - modelDigest: SHA-256 of the model that the profiles are of.
  ///   - documentsDigest: SHA-256 of the file of the documents.
  /// - Throws: ``GenerationError/applicability(_:)`` for fewer documents, profiles of different sizes, and documents
  ///   that are all equal.
  /// - Complexity: O(n² · (n + hiddenSize)) for n documents.
  public init(
    fitting: [[Float]], heldBack: [[Float]], layer: Int? = nil, level: Double = Self.usualLevel,
    modelDigest: String,
    documentsDigest: String
  ) throws(GenerationError) {
    guard fitting.count >= Self.fewestDocuments, heldBack.count >= Self.fewestDocuments else {
      throw .applicability(
        "a guard needs \(Self.fewestDocuments) documents to fit and as many held back, found \(fitting.count) and "
          + "\(heldBack.count)")
    }
    guard level > 0, level < 1 else {
      throw .option(field: "level of a guard", expected: "above 0 and below 1", found: "\(level)")
    }
    let size = fitting[0].count
    guard size > 0, (fitting + heldBack).allSatisfy({ $0.count == size && $0.allSatisfy(\.isFinite) }) else {
      throw .applicability("profiles of documents must be finite numbers, all of one size")
    }
    // Settings and hashes take little beside the matrix.
    let rows = fitting.prefix(max(Self.fewestDocuments, Self.largestFile / (4 * size) - 2))
    let count = rows.count
    var mean = [Double](repeating: 0, count: size)
    for row in rows { for index in 0..<size { mean[index] += Double(row[index]) / Double(count) } }
    let scale = 1 / Double(count).squareRoot()
    let deviations = rows.map { row in row.indices.map { (Double(row[$0]) - mean[$0]) * scale } }
    let trace = deviations.reduce(0) { $0 + Self.dot($1, $1) }
    guard trace > 1e-12 * Self.dot(mean, mean) else {
      throw .applicability("the documents of the guard are all equal: nothing can be told from them")
    }
    let ridge = Self.ridgeShare * trace / Double(size)
    // ρI + XXᵀ = LLᵀ, and W = L⁻¹X.
    var factor = [[Double]](repeating: [], count: count)
    var whitening: [[Double]] = []
    for row in 0..<count {
      var line = [Double](repeating: 0, count: row + 1)
      var own = deviations[row]
      for column in 0..<row {
        var value = Self.dot(deviations[row], deviations[column])
        for index in 0..<column { value -= line[index] * factor[column][index] }
        line[column] = value / factor[column][column]
        for index in 0..<size { own[index] -= line[column] * whitening[column][index] }
      }
      var square = ridge + Self.dot(deviations[row], deviations[row])
      for index in 0..<row { square -= line[index] * line[index] }
      line[row] = max(square, ridge).squareRoot()
      for index in 0..<size { own[index] /= line[row] }
      factor[row] = line
      whitening.append(own)
    }
    self.init(
      modelDigest: modelDigest, documentsDigest: documentsDigest, layer: layer, level: level,
      center: mean.map(Float.init),
      whitening: whitening.flatMap { $0.map(Float.init) }, ridge: Float(ridge), heldBack: [])
    self = with(heldBack: heldBack.map(score).sorted())
  }

  init(
    modelDigest: String, documentsDigest: String, layer: Int?, level: Double, center: [Float],
    whitening: [Float],
    ridge: Float, heldBack: [Float]
  ) {
    self.layer = layer
    self.modelDigest = modelDigest
    self.documentsDigest = documentsDigest
    // As a file keeps it.
    self.level = Double(Float(level))
    self.center = center
    self.whitening = whitening
    self.ridge = ridge
    self.heldBack = heldBack
    fittedCount = whitening.count / max(center.count, 1)
  }

  private func with(heldBack: [Float]) -> ApplicabilityGuard {
    ApplicabilityGuard(
      modelDigest: modelDigest, documentsDigest: documentsDigest, layer: layer, level: level, center: center,
      whitening: whitening, ridge: ridge, heldBack: heldBack)
  }

  /// Looks at a document by its profile.
  ///
  /// - Complexity: O(fittedCount · hiddenSize)
  public func look(at profile: [Float]) -> Applicability {
    let score = score(profile)
    let farther = heldBack.reduce(0) { $0 + ($1 >= score ? 1 : 0) }
    // What is no number is like nothing.
    return Applicability(
      isInside: score <= cutoff, pValue: Double(1 + farther) / Double(heldBack.count + 1))
  }

  /// The squared Mahalanobis distance from the documents of the fit.
  func score(_ profile: [Float]) -> Float {
    guard profile.count == center.count else { return .infinity }
    let size = center.count
    var deviation = [Double](repeating: 0, count: size)
    for index in 0..<size { deviation[index] = Double(profile[index]) - Double(center[index]) }
    var known = 0.0
    for row in 0..<fittedCount {
      var part = 0.0
      for index in 0..<size { part += Double(whitening[row * size + index]) * deviation[index] }
      known += part * part
    }
    return Float((Self.dot(deviation, deviation) - known) / Double(ridge))
  }

  private static func dot(_ first: [Double], _ second: [Double]) -> Double {
    var sum = 0.0
    for index in first.indices { sum += first[index] * second[index] }
    return sum
  }
}
