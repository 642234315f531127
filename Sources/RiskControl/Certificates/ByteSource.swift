import Foundation

/// A file read front to back in pieces, so that a large table is in memory once and not twice.
package final class ByteSource {
  package let name: String
  /// Bytes in the file; nil for standard input.
  package let size: Int?
  private let handle: FileHandle
  private var buffered = Data()

  /// - Parameter path: a file, or `-` for standard input.
  package init(path: String) throws(RiskControlError) {
    name = path == "-" ? "standard input" : path
    if path == "-" {
      handle = .standardInput
      size = nil
      return
    }
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw .file("no such file", in: path)
    }
    guard !isDirectory.boolValue else { throw .file("is a folder, expected a file", in: path) }
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw .file("the file cannot be opened for reading", in: path)
    }
    self.handle = handle
    let attributes = try? FileManager.default.attributesOfItem(atPath: path)
    let isRegular = attributes?[.type] as? FileAttributeType == .typeRegular
    size = isRegular ? (attributes?[.size] as? NSNumber)?.intValue : nil
  }

  deinit {
    if size != nil { try? handle.close() }
  }

  /// The next bytes, `count` of them unless the file ends before.
  package func read(_ count: Int) throws(RiskControlError) -> Data {
    do {
      while buffered.count < count {
        guard let more = try handle.read(upToCount: count - buffered.count), !more.isEmpty else { break }
        if buffered.isEmpty { buffered = more } else { buffered.append(more) }
      }
    } catch {
      throw .file("the file cannot be read (\(error.localizedDescription))", in: name)
    }
    let taken = buffered.prefix(count)
    buffered = buffered.count == taken.count ? Data() : Data(buffered.dropFirst(taken.count))
    return taken
  }

  /// Looks at the next bytes without taking them.
  package func peek(_ count: Int) throws(RiskControlError) -> [UInt8] {
    let bytes = try read(count)
    buffered = bytes + buffered
    return [UInt8](bytes)
  }

  package func readToEnd() throws(RiskControlError) -> Data {
    do {
      let rest = try handle.readToEnd() ?? Data()
      defer { buffered = Data() }
      return buffered.isEmpty ? rest : buffered + rest
    } catch {
      throw .file("the file cannot be read (\(error.localizedDescription))", in: name)
    }
  }
}
