import FileFormats
import Foundation
import Transformers

/// What a file of keys and values says of itself.
struct PromptCacheHeader: Codable, Equatable {
  /// The program that wrote it.
  var program: String
  /// SHA-256 of the model.
  var model: String
  /// ``LanguageModel/computeDescription``
  var compute: String
  /// Sums have another order on other instruction sets, and so other bits.
  var kernels: String
  var layers: Int
  var heads: Int
  var headSize: Int
  /// Of a number.
  var bits: Int
  var tokens = 0
  /// The layer after which a guard's sums were taken; absent where there are none.
  var guardLayer: Int?

  enum CodingKeys: String, CodingKey {
    case program, model, compute, kernels, layers, heads, bits, tokens
    case headSize = "head_size"
    case guardLayer = "guard_layer"
  }

  /// What a model's own says, but for the tokens.
  ///
  /// - Throws: ``GenerationError`` for a model whose prompts cannot be kept.
  init(model: LanguageModel, modelDigest: String, path: String) throws(GenerationError) {
    guard !model.hasEncoder else {
      throw .option(
        field: "prompt-cache", expected: "absent for an encoder-decoder, whose encoder reads the text",
        found: path)
    }
    guard let decoder = model.decoder as? Transformer else {
      throw .promptCache(file: path, problem: "the model keeps no keys and values that a file could have")
    }
    guard decoder.invariantBatchLimit >= DecodingBuffers.prefillChunk else {
      throw .option(
        field: "prompt-cache",
        expected: "absent with --compute float32, whose sums depend on how many tokens are read together",
        found: path)
    }
    let configuration = decoder.configuration
    program = EgressVersion.program
    self.model = modelDigest
    compute = model.computeDescription
    kernels = decoder.instructionSet.rawValue
    (layers, heads) = (configuration.layerCount, configuration.keyValueHeadCount)
    (headSize, bits) = (configuration.headSize, decoder.cacheBits)
  }

  /// What of another header does not fit, as a part of a sentence; `nil` where all of it does.
  func firstDifference(to found: PromptCacheHeader) -> String? {
    let fields: [(String, String, String)] = [
      ("another model", model, found.model),
      ("another version of this program", program, found.program),
      ("another way to compute", compute, found.compute),
      ("kernels that add in another order", kernels, found.kernels),
      (
        "another shape", "\([layers, heads, headSize, bits])",
        "\([found.layers, found.heads, found.headSize, found.bits])"
      ),
    ]
    return fields.first { $0.1 != $0.2 }.map {
      "it is of \($0.0), \(FileError.printable($0.2)), and this is \(FileError.printable($0.1))"
    }
  }
}

/// The file itself: magic, version, the header's length, the header as JSON, the tokens, a guard's sums, keys and
/// values by layer, and the SHA-256 of all that. Numbers are little-endian.
enum PromptCacheFile {
  static let magic = Array("EGRESSKV".utf8)
  static let version: UInt32 = 1
  /// More than any header takes.
  private static let longestHeader = 4096
  private static let fixedBytes = 16

  struct Contents {
    var tokens: [TokenID]
    var sums: [Double]
    var guardLayer: Int?
    var cache: KeyValueCache
  }

  /// Reads a file, of which nothing is taken for granted.
  static func read(_ path: String, for model: LanguageModel, expected own: PromptCacheHeader) throws
    -> Contents
  {
    func refusal(_ problem: String) -> GenerationError { .promptCache(file: path, problem: problem) }
    let reader: SealedFileReader
    do {
      reader = try SealedFileReader(path: path)
    } catch {
      guard error.kind == .damaged else { throw error }
      throw refusal("it is no file of keys and values")
    }
    guard reader.byteCount > fixedBytes else { throw refusal("it is no file of keys and values") }
    let start = try reader.read(fixedBytes)
    guard start.starts(with: magic) else { throw refusal("it is no file of keys and values") }
    let numbers = start.withUnsafeBytes { bytes in
      [8, 12].map { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) }
    }
    guard numbers[0] == version else {
      throw refusal("it is of version \(numbers[0]), and this program reads version \(version)")
    }
    let length = Int(numbers[1])
    guard (2...longestHeader).contains(length), length <= reader.byteCount - fixedBytes else {
      throw refusal("it is damaged: its header has \(length) bytes")
    }
    let text = try reader.read(length)
    let header: PromptCacheHeader
    do {
      header = try text.withUnsafeBytes {
        try JSONStructure.decode(
          PromptCacheHeader.self, from: $0, file: path, field: "header", valueLimit: 100)
      }
    } catch {
      throw refusal("it is damaged: its header cannot be read")
    }
    if let difference = own.firstDifference(to: header) { throw refusal(difference) }
    return try read(reader, header, after: fixedBytes + length, for: model, refusal)
  }

  private static func read(
    _ reader: SealedFileReader, _ header: PromptCacheHeader, after start: Int, for model: LanguageModel,
    _ refusal: (String) -> GenerationError
  ) throws -> Contents {
    let configuration = model.decoder.configuration
    guard (1...configuration.contextLength).contains(header.tokens) else {
      throw refusal(
        "it is damaged: \(header.tokens) tokens, where the model's context holds \(configuration.contextLength)"
      )
    }
    if let layer = header.guardLayer, !(1...configuration.layerCount).contains(layer) {
      throw refusal("it is damaged: a guard at layer \(layer) of \(configuration.layerCount)")
    }
    let cache = try model.decoder.makeCache(capacity: header.tokens)
    let sumCount =
      header.guardLayer == nil ? 0 : header.tokens / PromptProfile.spacing * configuration.hiddenSize
    let expected =
      start + 4 * header.tokens + 8 * sumCount + (cache.shape?.byteCount(positions: header.tokens) ?? 0)
    guard reader.byteCount == expected else {
      throw refusal("it is damaged: it should have \(expected) bytes and has \(reader.byteCount)")
    }
    let tokens = try reader.read(4 * header.tokens).withUnsafeBytes { bytes in
      (0..<header.tokens).map {
        TokenID(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
      }
    }
    let sums = try reader.read(8 * sumCount).withUnsafeBytes { bytes in
      (0..<sumCount).map {
        Double(bitPattern: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)))
      }
    }
    let isFinite = try cache.fillBeginning(header.tokens) { part throws(FileError) in
      try reader.read(into: part)
    }
    guard isFinite, sums.allSatisfy(\.isFinite) else {
      throw refusal("it is damaged: it has numbers that are not finite")
    }
    do {
      try reader.checkSeal()
    } catch {
      guard error.kind == .damaged else { throw error }
      throw refusal("it is damaged: its SHA-256 is another")
    }
    return Contents(tokens: tokens, sums: sums, guardLayer: header.guardLayer, cache: cache)
  }

  /// - Returns: `false` where another process is writing it.
  static func write(
    _ path: String, _ header: PromptCacheHeader, _ tokens: [TokenID], sums: [Double], cache: KeyValueCache
  ) throws -> Bool {
    guard let writer = try SealedFileWriter(path: path) else { return false }
    var bytes = magic
    let text = Array(try CanonicalJSON.line(header).utf8)
    for number in [version, UInt32(text.count)] { append(number, to: &bytes) }
    bytes += text
    for token in tokens { append(UInt32(truncatingIfNeeded: token), to: &bytes) }
    for sum in sums { append(sum.bitPattern, to: &bytes) }
    try bytes.withUnsafeBytes { try writer.write($0) }
    try cache.withBeginning(tokens.count) { part throws(FileError) in try writer.write(part) }
    try writer.finish()
    return true
  }

  private static func append(_ number: some FixedWidthInteger, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: number.littleEndian) { bytes += $0 }
  }
}
