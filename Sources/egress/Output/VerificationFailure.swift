/// A file that is not the one a certificate names.
struct VerificationFailure: Error, CustomStringConvertible {
  let description: String
}
