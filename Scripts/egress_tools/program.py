"""Runs of egress."""

import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path


def run_egress(
    program: str | Path, command: Sequence[str | Path], allowed: Collection[int] = (0,), quiet: bool = False
) -> str:
    """What a command prints. It is shown on standard error unless quiet; another status ends the script."""
    line = [str(program), *map(str, command)]
    if not quiet:
        print("$", " ".join(line), file=sys.stderr, flush=True)
    result = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode not in allowed:
        sys.exit(f"{' '.join(line)} ended with {result.returncode}")
    return result.stdout
