#!/usr/bin/env python3
"""Writes docs/egress.1 from what the program says about itself: egress --experimental-dump-help | make_manual.py"""

import json
import re
import sys
from typing import Any

# What other manuals call the headings of the program's help.
HEADINGS = {"EXIT CODES": "EXIT STATUS"}


def escape(text: str | None) -> str:
    text = (text or "").replace("\\", "\\e").replace("-", "\\-")
    # Not every troff reads UTF-8.
    text = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def sections(discussion: str | None) -> tuple[str, list[tuple[str, str]]]:
    """The text before the first heading, and the headings with what stands under them."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in (discussion or "").split("\n"):
        if re.fullmatch(r"[A-Z][A-Z ]+", line):
            found.append((line, []))
        else:
            found[-1][1].append(line)
    named = [(name, "\n".join(lines).strip("\n")) for name, lines in found]
    return named[0][1], named[1:]


def prose(text: str) -> str:
    return "".join(f".PP\n{escape(part)}\n" for part in text.split("\n\n") if part.strip())


def examples(text: str) -> str:
    # Indented lines keep their ends; anything else is prose.
    return "".join(
        f".PP\n.nf\n{escape(part)}\n.fi\n" if part.startswith(" ") else prose(part) for part in text.split("\n\n")
    )


def stands_alone(argument: dict[str, Any]) -> bool:
    """Whether an option may be given without its value, which then is what the program calls its default."""
    return argument.get("parsingStrategy") == "scanningForValue" and argument.get("isOptional", False)


def option(argument: dict[str, Any]) -> str:
    names = ", ".join(("--" if n["kind"] == "long" else "-") + n["name"] for n in argument.get("names", []))
    value = "" if argument["kind"] == "flag" else f" <{argument['valueName']}>"
    if stands_alone(argument):
        value = f" [{value.strip()}]"
    return (names + value if names else f"[{argument['valueName']}]") or argument["valueName"]


def meaning(argument: dict[str, Any]) -> str:
    facts = []
    # Most texts name the values that are words themselves.
    if argument.get("allValues") and not all(v in argument.get("abstract", "") for v in argument["allValues"]):
        facts.append("one of " + ", ".join(argument["allValues"]))
    if argument.get("defaultValue") and argument["kind"] != "flag":
        facts.append(("without a value: " if stands_alone(argument) else "default: ") + argument["defaultValue"])
    return argument.get("abstract", "") + (f" ({'; '.join(facts)})" if facts else "")


def write(command: dict[str, Any], path: list[str], out: list[str]) -> None:
    name = " ".join(path)
    if len(path) > 1:
        out.append(f".SS {escape(name)}\n{escape(command.get('abstract'))}")
        text, named = sections(command.get("discussion"))
        out.append(prose(text).rstrip("\n"))
        for heading, body in named:
            out.append(f".PP\n.B {heading.capitalize()}\n{examples(body)}".rstrip("\n"))
    for argument in command.get("arguments", []):
        if argument.get("shouldDisplay", True) and argument["valueName"] not in ("help", "version"):
            out.append(f".TP\n.B {escape(option(argument))}\n{escape(meaning(argument))}")
    for child in command.get("subcommands", []):
        if child["commandName"] != "help":
            write(child, [*path, child["commandName"]], out)


root = json.load(sys.stdin)["command"]
text, named = sections(root.get("discussion"))
lines = [".TH EGRESS 1", f".SH NAME\negress \\- {escape(root['abstract'].rstrip('.'))}"]
lines.append(".SH SYNOPSIS\n.B egress\ncommand [options]\n.PP\n.B egress help\ncommand")
# What follows the first heading in the help may go on with prose that belongs to the whole.
prefix = [text]
rest = []
for heading, body in named:
    blocks = body.split("\n\n")
    prefix += [block for block in blocks if not block.startswith(" ")]
    rest.append((heading, "\n\n".join(block for block in blocks if block.startswith(" "))))
lines.append(
    ".SH DESCRIPTION\n" + escape(root["abstract"]) + "\n" + "".join(prose(part) for part in prefix).rstrip("\n")
)
lines.append(".SH COMMANDS")
write(root, ["egress"], lines)
for heading, body in rest:
    lines.append(f".SH {HEADINGS.get(heading, heading)}\n{examples(body)}".rstrip("\n"))
print("\n".join(line for line in lines if line))
