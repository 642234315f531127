/// A reason why a command cannot do its work, as a sentence for the user.
struct CommandError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) {
    self.description = description
  }
}
