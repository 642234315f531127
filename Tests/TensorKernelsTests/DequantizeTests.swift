import Foundation
import TensorKernels
import TestSupport
import Testing

@Suite("Reference dequantisation")
struct DequantizeTests {
  @Test("Every format decodes as the gguf package does, to the bit", arguments: DequantizeFixture.all)
  func fixtureAgrees(_ fixture: DequantizeFixture) throws {
    let blocks = try #require(Data(base64Encoded: fixture.blocks, options: .ignoreUnknownCharacters))
    let expected = try #require(Data(base64Encoded: fixture.floats, options: .ignoreUnknownCharacters))
    let count = expected.count / 4
    #expect(blocks.count / fixture.format.bytesPerBlock * fixture.format.blockLength == count)
    // At an odd address, because safetensors files do not align.
    let shifted = [0] + Array(blocks)
    var floats = [Float](repeating: .nan, count: count)
    let written = shifted.withUnsafeBytes { bytes in
      floats.withUnsafeMutableBufferPointer {
        fixture.format.dequantize(UnsafeRawBufferPointer(rebasing: bytes.dropFirst()), into: $0)
      }
    }
    #expect(written == count)
    let expectedBits = expected.withUnsafeBytes { bytes in
      (0..<count).map { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)) }
    }
    #expect(floats.map(\.bitPattern) == expectedBits)
  }

  @Test("There is a fixture for every format")
  func fixturesAreComplete() {
    #expect(Set(DequantizeFixture.all.map(\.format)) == Set(BlockFormat.allCases))
  }

  @Test("Only whole blocks with room are decoded", arguments: BlockFormat.allCases)
  func partialBlocksAreLeft(_ format: BlockFormat) {
    let bytes = [UInt8](repeating: 0, count: format.bytesPerBlock * 3 - 1)
    func written(_ byteCount: Int, _ room: Int) -> Int {
      var floats = [Float](repeating: 7, count: room + 1)
      let count = bytes.withUnsafeBytes { bytes in
        floats.withUnsafeMutableBufferPointer {
          format.dequantize(.init(rebasing: bytes[..<byteCount]), into: .init(rebasing: $0[..<room]))
        }
      }
      #expect(floats[room] == 7)
      return count
    }
    #expect(written(bytes.count, format.blockLength * 3) == format.blockLength * 2)
    #expect(written(bytes.count, format.blockLength * 2 - 1) == format.blockLength)
    #expect(written(format.bytesPerBlock - 1, format.blockLength) == 0)
    #expect(written(0, 0) == 0)
  }

  @Test("All 65,536 half-precision patterns convert exactly")
  func halfPrecisionIsExact() {
    for bits in UInt16.min...UInt16.max {
      let float = Float(halfBits: bits)
      let exponent = Int(bits >> 10) & 31
      let mantissa = Double(bits & 0x3FF)
      let sign = bits & 0x8000 == 0 ? 1.0 : -1.0
      if exponent == 31 {
        #expect(mantissa == 0 ? float == Float(sign) * .infinity : float.isNaN)
      } else {
        let magnitude =
          exponent == 0 ? scalbn(mantissa, -24) : scalbn(1024 + mantissa, exponent - 25)
        #expect(Double(float) == sign * magnitude)
        #expect(float.sign == (sign < 0 ? .minus : .plus))
      }
    }
  }

  @Test("bfloat16 is the upper half of a float")
  func bfloat16IsExact() {
    #expect(Float(bfloat16Bits: 0x3F80) == 1)
    #expect(Float(bfloat16Bits: 0xC049) == -3.140625)
  }

  @Test(
    "Random blocks of every format are centred and of the size asked for", arguments: BlockFormat.allCases)
  func randomBlocksAreSane(_ format: BlockFormat) {
    var random = SplitMix64(seed: 3)
    let count = 256 * 64
    let bytes = format.randomBlocks(count: count, scale: 0.2, using: &random)
    #expect(bytes.count == count / format.blockLength * format.bytesPerBlock)
    var floats = [Float](repeating: 0, count: count)
    let written = bytes.withUnsafeBytes { bytes in
      floats.withUnsafeMutableBufferPointer { format.dequantize(bytes, into: $0) }
    }
    #expect(written == count)
    let mean = floats.reduce(0, +) / Float(count)
    let deviation = (floats.reduce(0) { $0 + $1 * $1 } / Float(count)).squareRoot()
    #expect(abs(mean) < 0.02)
    #expect(deviation > 0.02 && deviation < 0.3)
  }
}
