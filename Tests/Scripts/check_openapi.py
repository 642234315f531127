#!/usr/bin/env python3
"""Holds a server of egress against docs/openapi.yaml with schemathesis (pip install schemathesis).

    python3 Tests/Scripts/check_openapi.py .build/release/egress [MODEL] [--examples 30]

Starts a server of its own. Requests made from the description, right and wrong ones, must never be answered with a
fault, and answers must be what the description says. Not checked: that all requests of the description's form are
taken. It cannot say that fields exclude each other, or how many tokens a text has.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from serve_process import ROOT, serving


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model", nargs="?", default="smollm2-135m-reader")
    parser.add_argument("--examples", type=int, default=30)
    arguments = parser.parse_args()
    # Outputs end soon where the context is small.
    with serving(arguments.program, "--model", arguments.model, "--context", "160", "--slots", "4") as base:
        line = [str(Path(sys.executable).parent / "schemathesis"), "run", str(ROOT / "docs" / "openapi.yaml")]
        line += ["--url", base, "--max-examples", str(arguments.examples), "--seed", "1", "--no-color"]
        line += ["--exclude-checks", "positive_data_acceptance", "--request-timeout", "120"]
        sys.exit(subprocess.run(line, check=False).returncode)


if __name__ == "__main__":
    main()
