/// Other values for some tensors of a GGUF file, in a GGUF file of their own: what further training has changed.
public enum GGUFPatch {
  /// Bytes of a GGUF file in which the tensors of another have taken the place of its own.
  ///
  /// Each must be there under the same name, in the same shape and format, so that nothing but its bytes changes.
  ///
  /// - Parameters:
  ///   - patch: Path of the file with the tensors to put in.
  ///   - base: Path of the whole file; it stays as it is.
  ///   - write: Called with parts of the result, one after the other.
  /// - Throws: ``CheckpointError`` for a file that is no sound GGUF or a tensor that does not fit, before anything is written, and
  ///   what `write` throws.
  /// - Complexity: O(bytes of the base), without holding them in memory.
  public static func apply(
    _ patch: String, to base: String, write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let file = try MappedFile(path: base)
    let own = try GGUFFile(file).tensors
    let tensors = try GGUFFile(MappedFile(path: patch)).tensors
    var places: [(target: MappedTensor, source: MappedTensor)] = []
    for (name, source) in tensors.sorted(by: { $0.key < $1.key }) {
      let field = "tensor \(CheckpointError.printable(name))"
      guard let target = own[name] else {
        throw CheckpointError(
          kind: .tensor, file: patch, field: field, expected: "a tensor of \(base)",
          found: "none of that name")
      }
      guard target.shape == source.shape, target.format == source.format else {
        throw CheckpointError(
          kind: .tensor, file: patch, field: field,
          expected: "\(target.shape) in \(target.format.name) as in \(base)",
          found: "\(source.shape) in \(source.format.name)")
      }
      places.append((target, source))
    }
    places.sort { $0.target.offset < $1.target.offset }
    defer { withExtendedLifetime(file) {} }
    var done = 0
    for (target, source) in places {
      try write(UnsafeRawBufferPointer(rebasing: file.bytes[done..<target.offset]))
      try source.withUnsafeBytes(write)
      done = target.offset + target.byteCount
    }
    try write(UnsafeRawBufferPointer(rebasing: file.bytes[done...]))
  }
}
