import Tokenization

func roundTrip(_ text: String, tokenizer json: [UInt8]) throws -> String {
  // snippet
  let tokenizer = try ByteLevelBPE(tokenizerJSON: json)
  var detokenizer = StreamingDetokenizer(tokenizer)
  var output = ""
  for token in try tokenizer.encode(text) {
    output += try detokenizer.append(token)
  }
  output += detokenizer.finish()
  // end
  return output
}
