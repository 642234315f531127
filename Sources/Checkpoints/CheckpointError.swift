import FileFormats

/// A checkpoint is refused for the reasons that any file is: what is missing, damaged, unknown, or of another shape.
public typealias CheckpointError = FileError
