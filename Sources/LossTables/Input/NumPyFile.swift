import Foundation
import RiskControl

/// Reads .npy files: versions 1 to 3, little-endian, in C or Fortran order.
package enum NumPyFile {
  package static let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]

  package static func read(_ source: ByteSource) throws(RiskControlError) -> NumericArray {
    let start = [UInt8](try source.read(8))
    guard start.count == 8, Array(start[..<6]) == magic else {
      throw .file("not a .npy file: it does not begin with \\x93NUMPY", in: source.name)
    }
    let major = start[6]
    guard (1...3).contains(major) else {
      throw .file(".npy version \(major).\(start[7]), expected 1 to 3", in: source.name)
    }
    let lengthBytes = [UInt8](try source.read(major == 1 ? 2 : 4))
    let length = lengthBytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    guard lengthBytes.count == (major == 1 ? 2 : 4), length <= 1 << 20 else {
      throw .file("the .npy header has \(length) bytes, expected at most \(1 << 20)", in: source.name)
    }
    let header = try source.read(length)
    guard header.count == length else { throw .file("the .npy header ends early", in: source.name) }
    let fields = try parse(String(decoding: header, as: UTF8.self), name: source.name)
    guard let count = NumericArray.count(of: fields.shape),
      let bytes = checkedProduct(count, fields.type.size)
    else {
      throw .file("the shape \(NumericArray.text(of: fields.shape)) is too large", in: source.name)
    }
    let prefix = 8 + lengthBytes.count + length
    if let size = source.size, size - prefix != bytes {
      throw .file(
        "\(size - prefix) bytes of data, expected \(bytes) for the shape \(NumericArray.text(of: fields.shape))",
        in: source.name)
    }
    let values = try source.readElements(fields.type, count: count, what: "the array")
    return NumericArray(
      shape: fields.shape, values: fields.isFortran ? Self.rowMajor(values, shape: fields.shape) : values)
  }

  /// Puts values that lie with the first index fastest into the order with the last index fastest.
  private static func rowMajor(_ values: [Double], shape: [Int]) -> [Double] {
    guard shape.count > 1, !values.isEmpty else { return values }
    var strides: [Int] = []
    var stride = 1
    for extent in shape {
      strides.append(stride)
      stride *= extent
    }
    var result: [Double] = []
    result.reserveCapacity(values.count)
    var index = [Int](repeating: 0, count: shape.count)
    var position = 0
    let last = shape.count - 1
    while result.count < values.count {
      for step in 0..<shape[last] { result.append(values[position + step * strides[last]]) }
      var axis = last - 1
      while axis >= 0 {
        index[axis] += 1
        position += strides[axis]
        guard index[axis] == shape[axis] else { break }
        position -= index[axis] * strides[axis]
        index[axis] = 0
        axis -= 1
      }
    }
    return result
  }

  package static func checkedProduct(_ a: Int, _ b: Int) -> Int? {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow ? nil : product
  }

  /// The header is the text of a Python dictionary with three fixed keys.
  private static func parse(
    _ header: String, name: String
  ) throws(RiskControlError) -> (type: ElementType, isFortran: Bool, shape: [Int]) {
    func value(_ key: String) throws(RiskControlError) -> Substring {
      guard let found = header.range(of: "'\(key)'"),
        let colon = header[found.upperBound...].firstIndex(of: ":")
      else { throw .file("the .npy header has no '\(key)'", in: name) }
      return header[header.index(after: colon)...].drop { $0 == " " }
    }
    let description = try value("descr").dropFirst().prefix { $0 != "'" }
    let types: [Substring: ElementType] = [
      "<f8": .float64, "<f4": .float32, "<f2": .float16, "<i8": .int64, "<i4": .int32, "<i2": .int16,
      "|i1": .int8, "|u1": .uint8, "|b1": .boolean,
    ]
    guard let type = types[description] else {
      throw .file(
        "element type '\(description.prefix(40))', expected one of \(types.keys.sorted().joined(separator: ", "))",
        in: name)
    }
    let order = try value("fortran_order")
    let isFortran = order.hasPrefix("True")
    guard isFortran || order.hasPrefix("False") else {
      throw .file(
        "the .npy header has the fortran_order '\(order.prefix(40))', expected True or False", in: name)
    }
    let text = try value("shape")
    guard text.first == "(", let end = text.firstIndex(of: ")") else {
      throw .file("the .npy header has no shape in parentheses", in: name)
    }
    var shape: [Int] = []
    for part in text[..<end].dropFirst().split(separator: ",") {
      let digits = part.filter { $0 != " " }
      if digits.isEmpty { continue }
      guard let extent = Int(digits), extent >= 0 else {
        throw .file("the .npy shape has '\(part.prefix(40))', expected a whole number", in: name)
      }
      shape.append(extent)
    }
    return (type, isFortran, shape)
  }
}
