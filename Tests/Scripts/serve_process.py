"""Servers of egress for the scripts beside this file."""

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def wait_for(process, log, text):
    """The port that a server says after a text on standard error."""
    for _ in range(3000):
        said = [line for line in Path(log).read_text().splitlines() if text in line]
        if said:
            return int(said[-1].split("127.0.0.1:")[1].split(";")[0])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"the server did not start: {Path(log).read_text()}")


@contextlib.contextmanager
def serving(program, *options, until="is served at"):
    """The address of a server that runs until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [program, "serve", "--port", "0", "--log-level", "error", *options], stderr=errors
            )
        try:
            yield f"http://127.0.0.1:{wait_for(process, log, until)}"
        finally:
            process.terminate()
            status = process.wait(timeout=120)
        if status != 0:
            sys.exit(f"the server ended with {status}: {log.read_text()}")
