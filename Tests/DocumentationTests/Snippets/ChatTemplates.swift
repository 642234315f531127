import ChatTemplates

func prompt() throws -> TemplateText {
  // snippet
  let template = try ChatTemplate(
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>")
  let message = TemplateMap([("role", .trusted("user")), ("content", .content("What is a <mill>?"))])
  let prompt = try template.render(["messages": .list([.map(message)])])
  print(prompt.string)
  // end
  return prompt
}
