// Only the compiler and linker flags of the system's libsentencepiece are taken from this module; its C++ header is
// included by CSentencePiece alone.
