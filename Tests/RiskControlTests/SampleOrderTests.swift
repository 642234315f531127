import RiskControl
import Testing

@Suite struct SampleOrderTests {
  @Test func `the generator draws the published sequence`() {
    // xoshiro256** seeded by SplitMix64 from 0; values of an independent implementation in Python.
    var generator = SeededGenerator(seed: 0)
    #expect(generator.next() == 0x99EC_5F36_CB75_F2B4)
    #expect(generator.next() == 0xBF6E_1F78_4956_452A)
    #expect(generator.next() == 0x1A5F_849D_4933_E6E0)
  }
}
