import Foundation
import LossTables
import RiskControl
import TestSupport
import Testing

/// Files written by the tests themselves, good ones in every format and hostile ones byte by byte.
@Suite struct InputTests {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func message(_ text: String, _ options: TableOptions = TableOptions()) throws -> String {
    try message(path: folder.write("table", text), options)
  }

  /// What was said of the file, without its name.
  private func message(path: String, _ options: TableOptions = TableOptions()) -> String {
    do throws(RiskControlError) {
      _ = try LossTable(path: path, options: options)
      return "no error"
    } catch {
      return error.description.hasPrefix(path + ": ")
        ? String(error.description.dropFirst(path.count + 2)) : "unnamed: \(error)"
    }
  }

  static func npy(
    _ shape: [Int], _ values: [Double], type: String = "<f8", order: String = "False", version: UInt8 = 1
  ) -> Data {
    let dimensions = shape.map { "\($0)," }.joined(separator: " ")
    var header = "{'descr': '\(type)', 'fortran_order': \(order), 'shape': (\(dimensions)), }"
    header += String(repeating: " ", count: 63) + "\n"
    var data = Data([0x93] + "NUMPY".utf8 + [version, 0])
    let count = header.utf8.count
    data +=
      version == 1
      ? Data([UInt8(count & 255), UInt8(count >> 8)]) : Data([UInt8(count & 255), UInt8(count >> 8), 0, 0])
    data += Data(header.utf8)
    for value in values {
      if type == "<f4" {
        withUnsafeBytes(of: Float(value).bitPattern.littleEndian) { data += Data($0) }
      } else if type == "<i4" {
        withUnsafeBytes(of: Int32(value).littleEndian) { data += Data($0) }
      } else {
        withUnsafeBytes(of: value.bitPattern.littleEndian) { data += Data($0) }
      }
    }
    return data
  }

  static func safetensors(_ header: String, _ values: [Double]) -> Data {
    var data = Data()
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { data += Data($0) }
    data += Data(header.utf8)
    for value in values { withUnsafeBytes(of: value.bitPattern.littleEndian) { data += Data($0) } }
    return data
  }

  @Test func `the same table in every format is the same table`() throws {
    let csv = try LossTable(path: folder.write("t.csv", "threshold,a,b\n1,0,0\n0.5,0.25,-1\n"))
    #expect(csv.thresholds == [1, 0.5] && csv.sampleCount == 2 && csv.losses(atRow: 1) == [0.25, -1])
    for version: UInt8 in 1...3 {
      let npy = try LossTable(
        path: folder.write("t.npy", Self.npy([2, 3], [1, 0, 0, 0.5, 0.25, -1], version: version)))
      #expect(npy == csv)
    }
    #expect(
      try LossTable(path: folder.write("t.npy", Self.npy([2, 3], [1, 0, 0, 0.5, 0.25, -1], type: "<f4")))
        == csv)
    let fortran = Self.npy([2, 3], [1, 0.5, 0, 0.25, 0, -1], order: "True")
    #expect(try LossTable(path: folder.write("t.npy", fortran)) == csv)
    let header = """
      {"__metadata__":{"a":"b"},"losses":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]},\
      "thresholds":{"dtype":"F64","shape":[2],"data_offsets":[32,48]}}
      """
    #expect(
      try LossTable(path: folder.write("t.st", Self.safetensors(header, [0, 0, 0.25, -1, 1, 0.5]))) == csv)
    let lines = "{\"threshold\": 1, \"losses\": [0, 0]}\n{\"threshold\": 0.5, \"losses\": [0.25, -1]}\n"
    #expect(try LossTable(path: folder.write("t.jsonl", lines)) == csv)
    #expect(try LossTable(path: folder.write("t.csv", "\u{FEFF}1,0,0\r\n0.5, 0.25 ,\"-1.0\"\r\n\r\n")) == csv)
    let thresholds = try folder.write("thresholds.csv", "1\n0.5\n")
    #expect(
      try LossTable(
        path: folder.write("t.csv", "0,0\n0.25,-1\n"), options: TableOptions(thresholdsPath: thresholds))
        == csv)
  }

  @Test func `confidences and losses by exit come from csv, safetensors and JSON Lines`() throws {
    let expected = try LossTable(
      confidences: [0.9, 0.1, 0.4, 0.2], losses: [0.5, 0, -0.5, 0], exitCount: 2, exitCosts: [1, 2])
    let confidences = try folder.write("c.csv", "0.9,0.1\n0.4,0.2\n")
    let costs = try LossTable.costs(path: folder.write("costs.csv", "1\n2\n"))
    let options = TableOptions(costs: costs, confidencesPath: confidences)
    #expect(try LossTable(path: folder.write("l.csv", "0.5,0\n-0.5,0\n"), options: options) == expected)
    let header = """
      {"confidences":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]},\
      "losses":{"dtype":"F64","shape":[2,2],"data_offsets":[32,64]},\
      "costs":{"dtype":"F64","shape":[2],"data_offsets":[64,80]}}
      """
    #expect(
      try LossTable(
        path: folder.write("e", Self.safetensors(header, [0.9, 0.1, 0.4, 0.2, 0.5, 0, -0.5, 0, 1, 2])))
        == expected)
    let lines = """
      {"confidences":[0.9,0.1],"losses":[0.5,0],"costs":[1,2]}
      {"confidences":[0.4,0.2],"losses":[-0.5,0],"costs":[1,2]}

      """
    #expect(try LossTable(path: folder.write("e.jsonl", lines)) == expected)
    let steps = """
      {"thresholds":[1,0.9],"losses":[0,0.5],"costs":[2,1]}
      {"thresholds":[1,0.4],"losses":[0,-0.5],"costs":[2,1]}

      """
    #expect(try LossTable(path: folder.write("s.jsonl", steps)) == expected)
  }

  @Test func `numbers are read to the last digit`() throws {
    for text in [
      "0.1", "-0.30000000000000004", "1e-3", "0.123456789012345", "5e-324", "1E0", ".5", "-0",
      "0.99999999999999999",
    ] {
      let table = try LossTable(path: folder.write("n.csv", "1,\(text)\n"))
      #expect(
        table.losses(atRow: 0)?[0].bitPattern == Double(text == ".5" ? "0.5" : text)?.bitPattern, "\(text)")
    }
  }

  @Test func `bad CSV is named by row and column`() throws {
    #expect(try message("") == "the table is empty; expected rows of numbers")
    #expect(try message("threshold,a\n") == "the table is empty; expected rows of numbers")
    #expect(try message("1,0\n0.5,x\n") == "row 2, column 2: \"x\" where a number was expected")
    #expect(try message("1,0\n0.5,\n") == "row 2, column 2: nothing where a number was expected")
    #expect(
      try message("1,0x1p-2\n")
        == "row 1, column 2: \"0x1p-2\" where a number was expected; a header has no numbers in it")
    for first in ["full", "1.0 (full)", "n/a", ""] {
      #expect(
        try message("\(first),0,0\n0.9,0,0\n").hasSuffix(
          "where a number was expected; a header has no numbers in it"))
    }
    #expect(try message("threshold,a,\n1,0,0\n0.5,0,0\n") == "no error")
    #expect(try message("1,0,0\n0.5,1\n") == "row 2: 2 columns, expected 3 as in row 1")
    #expect(
      try message("t,a\n1,0\n0.5,nan\n")
        == "row 3, column 2 (threshold 0.5): loss is NaN, expected a number in [-1, 1]")
    #expect(
      try message("1,0\n0.5,-inf\n")
        == "row 2, column 2 (threshold 0.5): loss is -infinity, expected a number in [-1, 1]")
    #expect(
      try message("1,0\n0.5,1.01\n")
        == "row 2, column 2 (threshold 0.5): loss 1.01 is above B = 1; expected a number in [-1, 1]")
    #expect(try message("1,0\n\n0.5,1\n") == "line 2 is empty, expected numbers")
    #expect(
      try message("1\n0.5\n") == "the table has 1 columns; expected a column of thresholds and one a sample")
    #expect(try message("nan,0\n") == "row 1: threshold is nan, expected a finite number")
    #expect(
      try message("0.5,0\n1,0\n0.7,0\n").contains("row 3: threshold 0.7 after 1 breaks the ascending order"))
  }

  @Test func `missing files and folders are named`() {
    #expect(message(path: folder.path + "/none.csv") == "no such file")
    #expect(message(path: folder.path) == "is a folder, expected a file")
  }

  @Test func `bad JSON Lines are named by line`() throws {
    #expect(
      try message("{\"threshold\":1,\"losses\":[0]}\n{\"threshold\":0.5}\n")
        == "line 2: the key \"losses\" is missing")
    #expect(
      try message("{\"threshold\":1,\"losses\":[0]}\n{\"threshold\":0.5,\"losses\":[NaN]}\n")
        == "line 2: not a JSON object (numbers must be finite: NaN and Infinity are no JSON)")
    #expect(
      try message("{\"threshold\":1,\"losses\":[0]}\n{\"threshold\":0.5,\"losses\":[0,1]}\n")
        == "line 2: 2 losses, expected 1 as on the first line")
    #expect(
      try message("{\"losses\":[0]}\n")
        == "line 1: expected one of \"threshold\", \"confidences\" and \"thresholds\", with \"losses\"")
    #expect(
      try message("{\"threshold\":1,\"losses\":[0],\"cost\":1}\n{\"threshold\":0,\"losses\":[0]}\n")
        == "line 2: costs must be given alike on every line")
  }

  @Test func `hostile .npy files are refused before they are read`() throws {
    func message(_ data: Data) throws -> String { try self.message(path: folder.write("t.npy", data)) }
    let good = Self.npy([2, 2], [1, 0, 0.5, 0])
    #expect(try message(good) == "no error")
    #expect(try message(good.dropLast()) == "31 bytes of data, expected 32 for the shape 2 × 2")
    #expect(try message(good + Data([0])) == "33 bytes of data, expected 32 for the shape 2 × 2")
    #expect(
      try message(Self.npy([2, 2], [1, 0, 0.5, 0], order: "Maybe"))
        .hasPrefix("the .npy header has the fortran_order 'Maybe,")
    )
    #expect(
      try message(Self.npy([2, 2], [1, 0, 0.5, 0], type: ">f8")).hasPrefix(
        "element type '>f8', expected one of"))
    #expect(try message(Self.npy([1 << 40, 1 << 40], [])).hasPrefix("the shape"))
    #expect(try message(Self.npy([1 << 50, 2], [])).hasPrefix("0 bytes of data, expected"))
    #expect(try message(Self.npy([4], [1, 0, 0.5, 0])) == "the array is 4, expected two dimensions")
    #expect(
      try message(Self.npy([0, 2], []))
        == "the table is empty; expected at least one threshold with its losses")
    #expect(
      try message(Self.npy([2, 2], [1, 0, 0.5, 0], version: 9)) == ".npy version 9.0, expected 1 to 3")
    for length in 0..<good.count where length != 0 {
      #expect(try message(good.prefix(length)) != "no error")
    }
  }

  @Test func `an array of any shape in Fortran order is the same array`() throws {
    // Values that name their place, as numpy.asfortranarray(a).tofile writes them: the first index runs fastest.
    let shape = [2, 3, 4]
    var values: [Double] = []
    for k in 0..<4 {
      for j in 0..<3 { for i in 0..<2 { values.append(Double(100 * i + 10 * j + k)) } }
    }
    let path = try folder.write("t.npy", Self.npy(shape, values, order: "True"))
    let array = try NumPyFile.read(ByteSource(path: path))
    var expected: [Double] = []
    for i in 0..<2 {
      for j in 0..<3 { for k in 0..<4 { expected.append(Double(100 * i + 10 * j + k)) } }
    }
    #expect(array.shape == shape && array.values == expected)
    let one = try folder.write("one.npy", Self.npy([3], [1, 2, 3], order: "True"))
    #expect(try NumPyFile.read(ByteSource(path: one)).values == [1, 2, 3])
  }

  @Test func `hostile safetensors files are refused before they are read`() throws {
    func message(_ header: String, _ values: [Double] = [0, 0]) throws -> String {
      try self.message(path: folder.write("t.st", Self.safetensors(header, values)))
    }
    func tensor(_ shape: String, _ offsets: String, type: String = "F64") -> String {
      "{\"losses\":{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(offsets)]}}"
    }
    #expect(try message(tensor("1,2", "0,24")).contains("data offsets [0, 24] do not fit the shape 1 × 2"))
    #expect(try message(tensor("1,3", "0,24")).contains("inside the file"))
    #expect(try message(tensor("9223372036854775807,9", "0,16")).contains("do not fit the shape"))
    #expect(try message(tensor("-1,-2", "0,16")).contains("do not fit the shape"))
    #expect(try message(tensor("1,1", "8,16")).contains("begins at byte 8 of the data, expected 0"))
    #expect(try message(tensor("1,2", "0,16", type: "F8")).contains("type F8, expected one of"))
    #expect(try message("{\"losses\":7}") == "the safetensors header is not a JSON object of tensors")
    #expect(try message(tensor("1,2", "0,16")) == "no tensor \"thresholds\"; the file has losses")
    var data = Self.safetensors("{}", [])
    data[4] = 1
    #expect(try self.message(path: folder.write("t.st", data)).hasPrefix("the safetensors header claims"))
  }

  @Test func `random damage to a file never traps`() throws {
    let header = """
      {"losses":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]},\
      "thresholds":{"dtype":"F64","shape":[2],"data_offsets":[32,48]}}
      """
    let files = [
      Self.safetensors(header, [0, 0, 0.25, -1, 1, 0.5]), Self.npy([2, 3], [1, 0, 0, 0.5, 0.25, -1]),
      Data("threshold,a,b\n1,0,0\n0.5,0.25,-1\n".utf8), Data("{\"threshold\": 1, \"losses\": [0, 0]}\n".utf8),
    ]
    var generator = SeededGenerator(seed: 40)
    for file in files {
      for _ in 0..<150 {
        var damaged = file
        for _ in 0...generator.index(below: 3) {
          damaged[damaged.startIndex + generator.index(below: damaged.count)] = UInt8(
            generator.index(below: 256))
        }
        _ = try? LossTable(path: folder.write("damaged", damaged))
      }
    }
  }
}
