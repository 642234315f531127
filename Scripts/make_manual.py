#!/usr/bin/env python3
"""Writes docs/egress.1 from what the program says about itself: egress --experimental-dump-help | make_manual.py"""
import json
import sys


def escape(text):
    text = (text or "").replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def option(argument):
    names = ", ".join(("--" if n["kind"] == "long" else "-") + n["name"] for n in argument.get("names", []))
    value = "" if argument["kind"] == "flag" else f" <{argument['valueName']}>"
    return (names + value if names else f"[{argument['valueName']}]") or argument["valueName"]


def write(command, path, out):
    name = " ".join(path)
    if len(path) > 1:
        out.append(f".SS {escape(name)}\n{escape(command.get('abstract'))}\n.PP")
    for argument in command.get("arguments", []):
        if argument.get("shouldDisplay", True) and argument["valueName"] not in ("help", "version"):
            out.append(f".TP\n.B {escape(option(argument))}\n{escape(argument.get('abstract'))}")
    if len(path) > 1 and command.get("discussion"):
        out.append(f".PP\n.nf\n{escape(command['discussion'])}\n.fi")
    for child in command.get("subcommands", []):
        if child["commandName"] != "help":
            write(child, path + [child["commandName"]], out)


root = json.load(sys.stdin)["command"]
lines = ['.TH EGRESS 1', f".SH NAME\negress \\- {escape(root['abstract'])}", ".SH SYNOPSIS\n.B egress\ncommand [options]"]
lines.append(f".SH DESCRIPTION\n.nf\n{escape(root.get('discussion'))}\n.fi\n.SH COMMANDS")
write(root, ["egress"], lines)
print("\n".join(lines))
