import FileFormats

func digest(of path: String) -> String? {
  // snippet
  var digest: String?
  do {
    digest = try FileDigest.sha256(path: path)
  } catch {
    print("\(error.file) cannot be used: expected \(error.expected), found \(error.found)")
  }
  // end
  return digest
}
