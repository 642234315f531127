import Checkpoints
import FileFormats
import TestSupport
import Testing

@Suite("File deltas")
struct FileDeltaTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// A delta, written down step by step, as another program would.
  struct Builder {
    enum Segment {
      case base(Int, Int)
      case bytes([UInt8])
    }

    var base: [UInt8]
    var segments: [Segment]
    var result: [UInt8]
    /// Nibble by nibble of what the segments make, how far it moves on.
    var gaps: [UInt8]
    var differences: [UInt8]
    var changes: Int
    var version: UInt32 = 1

    /// The delta of a base whose segments are `segments` to a `result` of the same length.
    init(base: [UInt8], segments: [Segment], result: [UInt8]) {
      self.base = base
      self.segments = segments
      self.result = result
      var plain: [UInt8] = []
      for segment in segments {
        switch segment {
        case .base(let start, let count): plain += base[start..<start + count]
        case .bytes(let bytes): plain += bytes
        }
      }
      var (moves, gaps, gap): ([UInt8], [UInt8], Int) = ([], [], 0)
      for (old, new) in zip(plain, result) {
        for shift in [UInt8(0), 4] {
          let difference = ((new >> shift & 15) &- (old >> shift & 15)) & 15
          if difference == 0 {
            gap += 1
          } else {
            gaps += Array(repeating: 255, count: gap / 255) + [UInt8(gap % 255)]
            moves.append(difference)
            gap = 0
          }
        }
      }
      self.gaps = gaps
      changes = moves.count
      differences = stride(from: 0, to: moves.count, by: 2).map {
        moves[$0] | ($0 + 1 < moves.count ? moves[$0 + 1] << 4 : 0)
      }
    }

    private static func number<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    /// A zlib stream of one stored block.
    static func stored(_ bytes: [UInt8]) -> [UInt8] {
      var (a, b): (UInt32, UInt32) = (1, 0)
      for byte in bytes { (a, b) = ((a + UInt32(byte)) % 65521, (b + (a + UInt32(byte)) % 65521) % 65521) }
      let count = UInt16(bytes.count)
      return [0x78, 0x01, 1] + number(count) + number(~count) + bytes + number((b << 16 | a).byteSwapped)
    }

    func build(_ directory: TemporaryDirectory) throws -> [UInt8] {
      func digest(_ bytes: [UInt8]) throws -> [UInt8] {
        let hex = Array(try FileDigest.sha256(path: directory.write("digest", bytes)).utf8)
        return stride(from: 0, to: 64, by: 2).map {
          UInt8(String(decoding: hex[$0...$0 + 1], as: UTF8.self), radix: 16) ?? 0
        }
      }
      var file = Array("EGRDELTA".utf8) + Self.number(version)
      for bytes in [base, result] { file += try Self.number(UInt64(bytes.count)) + digest(bytes) }
      file += Self.number(UInt32(segments.count))
      for segment in segments {
        switch segment {
        case .base(let start, let count):
          file += [0] + Self.number(UInt64(start)) + Self.number(UInt64(count))
        case .bytes(let bytes): file += [1] + Self.number(UInt64(bytes.count)) + bytes
        }
      }
      let streams = [Self.stored(gaps), Self.stored(differences)]
      file += Self.number(UInt64(changes)) + Self.number(UInt64(gaps.count))
      for stream in streams { file += Self.number(UInt64(stream.count)) }
      return file + streams.joined()
    }
  }

  static func example(_ count: Int = 3000) -> Builder {
    let base = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 37 ^ $0 >> 3) }
    let segments: [Builder.Segment] = [.base(0, 16), .bytes([1, 2, 3]), .base(20, count - 20), .bytes([])]
    var result = Array(base[..<16]) + [1, 2, 3] + Array(base[20...])
    // Neighbours, both halves of a byte, ends, and a gap of more than 255 nibbles.
    for (place, move) in [(0, 0x0F), (1, 0x10), (17, 0xFF), (40, 0x01), (41, 0x01), (count - 2, 0xF0)] {
      result[place] = (result[place] & 0xF0) &+ UInt8(move & 0xF0) | (result[place] &+ UInt8(move & 15)) & 15
    }
    return Builder(base: base, segments: segments, result: result)
  }

  func apply(_ delta: [UInt8], to base: [UInt8]) throws -> [UInt8] {
    let path = try directory.write("base", base)
    var result: [UInt8] = []
    try FileDelta(path: directory.write("delta", delta)).apply(to: path) { result += $0 }
    return result
  }

  @Test("What a delta makes is the file it was made of")
  func result() throws {
    let example = Self.example()
    #expect(example.changes == 7)
    #expect(example.result != example.base)
    #expect(try apply(example.build(directory), to: example.base) == example.result)
    let delta = try FileDelta(path: directory.write("delta", example.build(directory)))
    #expect(delta.changes == 7)
    #expect(delta.resultSize == example.result.count)
    #expect(try delta.resultDigest == FileDigest.sha256(path: directory.write("result", example.result)))
  }

  @Test("Changes on both sides of a part that is written at once")
  func chunks() throws {
    let base = [UInt8](repeating: 7, count: 3 << 20)
    var result = base
    for place in [0, (1 << 20) - 1, 1 << 20, (2 << 20) + 5, (3 << 20) - 1] { result[place] = 0x91 }
    var example = Builder(base: [], segments: [], result: [])
    example = Builder(base: base, segments: [.base(0, base.count)], result: result)
    #expect(example.gaps.count < 65536)
    #expect(try apply(example.build(directory), to: base) == result)
  }

  @Test("Another base is refused before anything is written")
  func otherBase() throws {
    let example = Self.example()
    let path = try directory.write("delta", example.build(directory))
    var other = example.base
    other[5] ^= 1
    for base in [other, Array(example.base.dropLast())] {
      var written = 0
      #expect(throws: CheckpointError.self) {
        try FileDelta(path: path).apply(to: directory.write("base", base)) { written += $0.count }
      }
      #expect(written == 0)
    }
  }

  @Test("A delta cut anywhere, or longer, is refused when it is read")
  func cut() throws {
    let whole = try Self.example().build(directory)
    for length in 1..<whole.count {
      let path = try directory.write("cut", Array(whole[..<length]))
      #expect(throws: CheckpointError.self, "cut to \(length) bytes") { try FileDelta(path: path) }
    }
    let longer = try directory.write("longer", whole + [0])
    #expect(throws: CheckpointError.self) { try FileDelta(path: longer) }
  }

  @Test("A byte altered anywhere is noticed, or one of the few bits that mean nothing")
  func altered() throws {
    let example = Self.example(200)
    let whole = try example.build(directory)
    var passed = 0
    for place in whole.indices {
      for bit in [UInt8(1), 0x80] {
        var altered = whole
        altered[place] ^= bit
        do {
          #expect(try apply(altered, to: example.base) == example.result, "byte \(place)")
          passed += 1
        } catch is CheckpointError {}
      }
    }
    // The padding after the header of a stored block, once a stream.
    #expect(passed == 2)
  }

  @Test("Lies about counts are told apart")
  func lies() throws {
    func refusal(_ edit: (inout Builder) -> Void) throws -> String? {
      var example = Self.example()
      edit(&example)
      let path = try directory.write("lie", example.build(directory))
      return #expect(throws: CheckpointError.self) { try FileDelta(path: path) }?.field
    }
    #expect(try refusal { $0.version = 2 } == "version")
    #expect(try refusal { $0.segments.removeLast(2) } == "segments")
    #expect(try refusal { $0.segments[2] = .base(100, 2980) } == "segment 2")
    #expect(try refusal { $0.changes += 2 } == "differences")
    #expect(try refusal { $0.changes = 1 << 62 } == "changes")
    #expect(try refusal { $0.gaps.removeLast() } != nil)
    #expect(try refusal { $0.gaps[0] = 255 } != nil)
    #expect(try refusal { $0.gaps[$0.gaps.count - 1] = 200 } == "gaps")
  }
}
