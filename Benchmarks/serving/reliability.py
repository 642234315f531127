#!/usr/bin/env python3
"""Whether a server of egress can be relied on: an hour of stress, SIGTERM, kill -9, and two servers on one folder.

    python3 Benchmarks/serving/reliability.py .build/release/egress --minutes 60 [--serve='--certificate c.json']

Starts its own servers, with a key, on ports that the system chooses. stress.py's clients for the time given; then
SIGTERM with requests under way: each request that was taken is answered, with the answer it gets alone, and the status
is 0. Then kill -9 with requests under way, and a new start: answers are the same. Then two servers at once on one
folder of models (EGRESS_HOME), one of them killed while the other answers. Without the key nothing but /health
answers. Prints JSON; exits with 1 where anything was not so. Standard library only.
"""

import argparse
import contextlib
import http.client
import json
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from stress import REQUESTS, Stress, body, texts

KEY = "key-of-these-tests"


class Server:
    """A server in a process of its own."""

    def __init__(self, program, options, folder, name):
        keys = Path(folder) / "keys"
        keys.write_text(KEY + "\n")
        self.log = Path(folder) / f"{name}.log"
        line = [program, "serve", "--port", "0", "--log-level", "warning", "--api-key-file", str(keys), *options]
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(line, stderr=errors)
        self.port = self.wait()

    def wait(self):
        for _ in range(3000):
            said = [line for line in self.log.read_text().splitlines() if "is served at" in line]
            if said:
                return int(said[-1].rsplit(":", 1)[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit(f"the server did not start: {self.log.read_text()}")

    def stress(self, expected=None):
        return Stress(urlsplit(f"http://127.0.0.1:{self.port}"), KEY, self.process.pid, expected)

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=120)


def without_key(port):
    """Statuses of every route without the key, and with a wrong one."""
    found = {}
    routes = [("GET", path) for path in ("/health", "/", "/metrics", "/v1/models", "/v1/models/a", "/nothing")]
    routes += [("POST", route) for route in sorted({route for route, _ in REQUESTS})]
    for wrong in ({}, {"Authorization": "Bearer " + KEY[:-1]}):
        for method, route in routes:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {"Content-Type": "application/json", **wrong}
            connection.request(method, route, b"{}" if method == "POST" else None, headers)
            found[f"{method} {route}{' wrong key' if wrong else ''}"] = connection.getresponse().status
            connection.close()
    return found


class Askers:
    """Clients that ask one request after the other until they get no answer."""

    def __init__(self, stress, count):
        self.stress = stress
        self.lock = threading.Lock()
        # What became of requests that were sent before the signal, and ended after it.
        self.ends = {}
        self.told = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        chance = random.Random(number)
        while True:
            index = chance.randrange(len(REQUESTS))
            was_told = self.told.is_set()
            outputs = None
            try:
                connection, response = self.stress.post(REQUESTS[index][0], body(index))
                answer = json.load(response)
                connection.close()
                end = response.status
                outputs = texts(REQUESTS[index][0], answer) if end == 200 else None
            except (OSError, http.client.HTTPException, ValueError) as error:
                end = type(error).__name__
            if outputs is not None and outputs != self.stress.expected[index]:
                self.stress.note(f"request {index} gave {outputs!r}, alone {self.stress.expected[index]!r}")
            if self.told.is_set():
                with self.lock:
                    when = "after" if was_told else "under way"
                    self.ends[f"{when}: {end}"] = self.ends.get(f"{when}: {end}", 0) + 1
            elif end != 200:
                self.stress.note(f"before the signal: {end}")
            if end != 200:
                return

    def end(self, server, how):
        """Sends a signal once all clients wait for answers, and says what became of their requests."""
        time.sleep(5)
        self.told.set()
        status = server.end(how)
        for thread in self.threads:
            thread.join()
        return {"status": status, "requests": dict(sorted(self.ends.items()))}


def check_end(name, result, stress, faults):
    """SIGTERM loses nothing that was under way."""
    lost = {end: count for end, count in result["requests"].items() if end.startswith("under way") and "200" not in end}
    if name == "SIGTERM" and (lost or result["status"] != 0):
        faults.append(f"{name}: {result}")
    faults += stress.faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--serve", default="", help="further options of egress serve")
    parser.add_argument("--json", help="write the figures to this file as well")
    arguments = parser.parse_args()
    options = ["--prefix-cache", "32", *shlex.split(arguments.serve)]
    figures, faults = {}, []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def start(name):
            server = Server(arguments.program, options, folder, name)
            stack.callback(server.process.kill)
            return server

        def write():
            text = json.dumps({**figures, "faults": faults[:20]}, indent=2)
            if arguments.json:
                Path(arguments.json).write_text(text + "\n")
            return text

        first = start("first")
        statuses = without_key(first.port)
        figures["without_key"] = {name: status for name, status in statuses.items() if status != 401}
        if set(figures["without_key"]) != {"GET /health", "GET /health wrong key"}:
            faults.append(f"without the key: {figures['without_key']}")

        stress = first.stress()
        expected = stress.expected
        started = time.monotonic()
        memory = stress.run(arguments.minutes * 60, arguments.clients)
        figures["stress"] = {
            "seconds": round(time.monotonic() - started),
            "memory": stress.check_memory(memory) if arguments.minutes >= 10 else {"mb": memory},
            **stress.report(),
        }
        faults += stress.faults
        write()

        for name, how in [("SIGTERM", signal.SIGTERM), ("kill -9", signal.SIGKILL)]:
            server = first if how == signal.SIGTERM else start("killed")
            asked = server.stress(expected)
            figures[name] = Askers(asked, arguments.clients).end(server, how)
            check_end(name, figures[name], asked, faults)
        write()

        # After the kill, and beside another.
        pair = [start("third"), start("fourth")]
        stresses = [server.stress() for server in pair]
        if any(stress.expected != expected for stress in stresses):
            faults.append("a server that was started later answers otherwise")
        askers = [Askers(stress, arguments.clients // 2) for stress in stresses]
        # The other goes on while the first of them is killed.
        figures["two servers, one killed"] = askers[0].end(pair[0], signal.SIGKILL)
        figures["two servers, the other stopped"] = askers[1].end(pair[1], signal.SIGTERM)
        check_end("kill -9", figures["two servers, one killed"], stresses[0], faults)
        check_end("SIGTERM", figures["two servers, the other stopped"], stresses[1], faults)
        print(write())
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
