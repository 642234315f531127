import ArgumentParser
import Certification
import Foundation

/// Why a shard or a merge did not come to its end, with the status by which a scheduler knows whether to try again.
struct ShardFailure: Error, CustomStringConvertible {
  var status: Int32
  var description: String

  /// It will not work with this input however often it is tried; EX_DATAERR of sysexits.h.
  static let lasting: Int32 = 65
  /// It may work later: a full disk, a file that another process holds, a shard that is not there yet; EX_TEMPFAIL.
  static let passing: Int32 = 75

  /// Does work whose errors end the command with one of the two.
  static func classifying<Result>(_ work: () throws -> Result) throws -> Result {
    do {
      return try work()
    } catch let error as ExitCode {
      throw error
    } catch let error as ValidationError {
      throw error
    } catch {
      throw ShardFailure(status: mayPass(error) ? passing : lasting, description: "\(error)")
    }
  }

  private static func mayPass(_ error: any Error) -> Bool {
    if let error = error as? CertificationError { return [.storage, .unfinished].contains(error.kind) }
    // What Foundation could not write.
    return error is CocoaError
  }
}
