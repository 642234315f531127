import Checkpoints
import FileFormats

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A conversation as JSON: a list of messages with `role` and `content`, or an object with such a list as `messages`.
///
/// The content of a message is a text or, as multimodal libraries write it, a list of parts that are texts.
public struct ConversationFile: Sendable, Equatable {
  /// The turns, in order.
  public var messages: [ChatMessage]

  /// Roles that a message may have. A template may know fewer.
  public static let roles = ["system", "developer", "user", "assistant", "tool"]

  /// A conversation of these turns.
  public init(_ messages: [ChatMessage]) {
    self.messages = messages
  }

  /// Reads a conversation.
  ///
  /// - Parameters:
  ///   - json: UTF-8.
  ///   - file: What to call it in messages.
  /// - Throws: `CheckpointError` for what is no such list, an empty one, and a role that is not in ``roles``.
  public init(json: [UInt8], file: String) throws(CheckpointError) {
    let document = try json.withUnsafeBufferPointer { bytes throws(CheckpointError) in
      try JSONStructure.decode(Document.self, from: UnsafeRawBufferPointer(bytes), file: file, field: "")
    }
    messages = document.messages.map(\.message)
    func fault(_ field: String, _ expected: String, _ found: String) -> CheckpointError {
      CheckpointError(kind: .damaged, file: file, field: field, expected: expected, found: found)
    }
    guard !messages.isEmpty else { throw fault("", "at least one message", "none") }
    for (index, message) in messages.enumerated() where !Self.roles.contains(message.role) {
      throw fault(
        (document.isObject ? "messages: " : "") + "[\(index)]: role",
        Self.roles.dropLast().joined(separator: ", ") + " or " + (Self.roles.last ?? ""),
        "\"\(CheckpointError.printable(message.role))\"")
    }
  }

  /// The conversation as JSON that this type reads.
  public func json() throws -> String {
    String(decoding: try CanonicalJSON.document(messages.map(Message.init)), as: UTF8.self)
  }

  private struct Document: Decodable {
    var messages: [Message]
    var isObject: Bool

    private enum CodingKeys: String, CodingKey { case messages }

    init(from decoder: any Decoder) throws {
      if let fields = try? decoder.container(keyedBy: CodingKeys.self) {
        messages = try fields.decode([Message].self, forKey: .messages)
        isObject = true
      } else {
        messages = try decoder.singleValueContainer().decode([Message].self)
        isObject = false
      }
    }
  }

  private struct Message: Codable {
    struct Part: Decodable {
      var type: String
      var text: String
    }
    enum CodingKeys: String, CodingKey { case role, content }
    var message: ChatMessage

    init(_ message: ChatMessage) { self.message = message }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.container(keyedBy: CodingKeys.self)
      let role = try fields.decode(String.self, forKey: .role)
      let parts = try? fields.nestedUnkeyedContainer(forKey: .content)
      guard parts != nil else {
        message = ChatMessage(role: role, content: try fields.decode(String.self, forKey: .content))
        return
      }
      let texts = try fields.decode([Part].self, forKey: .content)
      message = ChatMessage(role: role, content: texts.map(\.text).joined())
    }

    func encode(to encoder: any Encoder) throws {
      var fields = encoder.container(keyedBy: CodingKeys.self)
      try fields.encode(message.role, forKey: .role)
      try fields.encode(message.content, forKey: .content)
    }
  }
}
