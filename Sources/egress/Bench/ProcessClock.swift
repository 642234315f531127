import Foundation

/// Facts about this process that the operating system keeps.
enum ProcessClock {
  /// Seconds since the process was started, loading of the program included; `nil` where the system does not tell.
  /// The resolution is that of its clock ticks, most often 10 ms.
  static var secondsSinceStart: Double? {
    #if os(Linux)
      guard let (bytes, _) = try? TextInput.bytes(path: "/proc/self/stat") else { return nil }
      // The second field, in parentheses, may hold spaces; the start time is the 22nd.
      let text = String(decoding: bytes, as: UTF8.self)
      guard let name = text.lastIndex(of: ")") else { return nil }
      let fields = text[text.index(after: name)...].split(separator: " ")
      guard fields.count > 19, let ticks = Double(fields[19]) else { return nil }
      var now = timespec()
      guard clock_gettime(CLOCK_BOOTTIME, &now) == 0 else { return nil }
      let perSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
      return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9 - ticks / perSecond
    #else
      return nil
    #endif
  }

  /// The most bytes of memory that the process has had resident.
  static var peakResidentBytes: Int {
    var usage = rusage()
    #if canImport(Glibc)
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    #else
      getrusage(RUSAGE_SELF, &usage)
    #endif
    // Darwin counts bytes, the others kilobytes.
    #if canImport(Darwin)
      return Int(usage.ru_maxrss)
    #else
      return Int(usage.ru_maxrss) * 1024
    #endif
  }
}
