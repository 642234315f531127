import Certification

extension LoadedModel {
  /// What `adapt` has found for the model, and the folder that has it; `nil` where it was not adapted.
  ///
  /// - Throws: ``CertificationError`` for a damaged folder, ``CommandError`` for one of another model.
  func adaptation() throws -> (found: Adaptation, folder: String)? {
    let folder = Adaptation.folder(of: path)
    guard let found = try Adaptation.read(folder: folder) else { return nil }
    guard try found.modelDigest == digest() else {
      throw CommandError(
        "\(folder) is for another model, adapted as \(found.model); remove it, adapt again, or give --full-depth"
      )
    }
    return (found, folder)
  }
}
