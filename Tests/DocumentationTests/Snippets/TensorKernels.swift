import TensorKernels

func kernels() throws -> InstructionSet {
  // snippet
  let instructions = try InstructionSet.selected()
  let format = BlockFormat.q4_0
  print(
    "\(format.name) by \(instructions.rawValue): \(format.bytesPerBlock) bytes for \(format.blockLength) weights"
  )
  // end
  return instructions
}
