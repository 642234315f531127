#!/usr/bin/env python3
"""Sends what should not harm a server of egress, and holds its answers against those it gives in peace.

    python3 Benchmarks/serving/stress.py http://127.0.0.1:8080 --seconds 300 --process PID

16 clients: whole and streamed requests of every route, random cancels, slow readers, broken JSON, bodies that are too
large, and connections that stay half open. Exits with 1 where a complete answer differs from that of the same request
alone, a request is answered with 500, the server's memory moves by more than 5 %, or the server is gone. Standard
library only; loopback addresses only.
"""

import argparse
import collections
import http.client
import json
import random
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SUMMARY, ANSWER = "/v1/egress/summarize", "/v1/egress/answer"
SCHEMA = {"properties": {"place": {"type": "string", "maxLength": 20}, "year": {"type": "integer"}}}


def make_requests():
    """(n) routes and bodies: chats, greedy and drawn; JSON; several outputs; completions; summaries and answers."""
    topics = ["a mill", "the tide", "rivers", "bread", "a lighthouse", "herons", "boats", "a bridge", "rain", "a town"]
    requests = []
    for index, topic in enumerate(topics):
        fields = {"max_tokens": 8 + 7 * (index % 5), "temperature": 1 if index % 3 == 0 else 0, "seed": index}
        if index % 5 == 2:
            fields["n"] = 2
        if index % 5 == 4:
            fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        messages = [{"role": "user", "content": f"Write {2 + index % 4} sentences about {topic}."}]
        requests.append((CHAT, {"messages": messages, **fields}))
    requests.append((TEXT, {"prompt": "The mill stood", "max_tokens": 12, "logprobs": 2}))
    paragraphs = [part for part in (ROOT / "Examples" / "tide-mill.txt").read_text().split("\n\n") if len(part) > 200]
    for document in paragraphs[:3]:
        requests.append((SUMMARY, {"document": document}))
        for question in ["When did it close?", "Who owned it?"]:
            requests.append((ANSWER, {"document": document, "question": question}))
    return requests


REQUESTS = make_requests()


def body(index, stream=False):
    return json.dumps({**REQUESTS[index][1], "stream": stream}).encode()


def pieces(route, event):
    """Which outputs a server-sent event goes on with, and what it adds to each."""
    if route in (SUMMARY, ANSWER):
        return [] if event.get("done") else [(0, event["text"])]
    return [
        (choice["index"], (choice["delta"].get("content") if route == CHAT else choice["text"]) or "")
        for choice in event["choices"]
    ]


def texts(route, answer):
    """The outputs of a complete answer."""
    if route in (SUMMARY, ANSWER):
        return [answer["text"]]
    return [choice["message"]["content"] if route == CHAT else choice["text"] for choice in answer["choices"]]


class Stress:
    """Requests to one server, and what came of them."""

    def __init__(self, address, key="none", process=None, expected=None):
        self.host, self.port = address.hostname, address.port or 80
        self.key, self.process = key, process
        self.counts = collections.Counter()
        self.faults = []
        self.lock = threading.Lock()
        # Connections that nobody uses or closes.
        self.idle = collections.deque()
        self.expected = expected or [self.whole(index)[1] for index in range(len(REQUESTS))]
        # Once the server was told to stop, it may refuse what is new.
        self.is_stopping = threading.Event()

    def headers(self):
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}

    def post(self, route, data, timeout=300):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        connection.request("POST", route, data, self.headers())
        return connection, connection.getresponse()

    def whole(self, index):
        route = REQUESTS[index][0]
        connection, response = self.post(route, body(index))
        answer = json.load(response)
        connection.close()
        return response.status, texts(route, answer) if response.status == 200 else None

    def streamed(self, index, chance, pause=0.0, leaves=False):
        route = REQUESTS[index][0]
        connection, response = self.post(route, body(index, stream=True))
        if response.status != 200:
            response.read()
            connection.close()
            return response.status, None
        outputs = [""] * REQUESTS[index][1].get("n", 1)
        last = None
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise http.client.HTTPException(event["error"]["message"])
                last = event
                for output, piece in pieces(route, event):
                    outputs[output] += piece
            if pause:
                time.sleep(pause)
            if leaves and chance.random() < 0.2:
                response.close()
                connection.close()
                return 0, None
        connection.close()
        # A stream of documents says the whole text at its end.
        if route in (SUMMARY, ANSWER) and (not last.get("done") or outputs != [last["text"]]):
            self.note(f"request {index}: a stream of {outputs} ends with {last}")
        return 200, outputs

    def one(self, chance):
        """One thing that a client may do."""
        index = chance.randrange(len(REQUESTS))
        kind = chance.choices(
            ["whole", "stream", "slow", "leave", "broken", "large", "half", "idle", "garbage"],
            [8, 8, 2, 8, 4, 2, 2, 1, 2],
        )[0]
        status, outputs = None, None
        try:
            if kind == "whole":
                status, outputs = self.whole(index)
            elif kind == "stream":
                status, outputs = self.streamed(index, chance)
            elif kind == "slow":
                status, outputs = self.streamed(index, chance, pause=0.05)
            elif kind == "leave":
                self.streamed(index, chance, leaves=True)
            elif kind == "broken":
                status = self.broken(index, chance)
            elif kind == "large":
                connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
                connection.request("POST", CHAT, b"{" + b" " * (5 << 20), self.headers())
                status = connection.getresponse().status
                connection.close()
            elif kind == "idle":
                self.hold()
            else:
                half = socket.create_connection((self.host, self.port), timeout=60)
                head = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n"
                half.sendall(head if kind == "half" else bytes(chance.randrange(256) for _ in range(200)))
                time.sleep(chance.random())
                half.close()
        except (OSError, http.client.HTTPException) as error:
            # A server that hangs up on a body that is too large may reset the connection while it is sent.
            if kind not in ("large", "garbage", "broken", "leave", "idle") and not self.is_stopping.is_set():
                self.note(f"{kind}: {error!r}")
            status = "refused" if isinstance(error, ConnectionRefusedError) else "cut"
        with self.lock:
            self.counts[kind, status] += 1
        if status == 500:
            self.note(f"{kind}: 500")
        if outputs is not None and outputs != self.expected[index]:
            self.note(f"{kind}: request {index} gave {outputs!r}, alone {self.expected[index]!r}")
        return kind, status

    def broken(self, index, chance):
        """A body with bytes that do not belong there."""
        data = bytearray(body(index))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        connection, response = self.post(REQUESTS[index][0], bytes(data))
        response.read()
        connection.close()
        return response.status

    def hold(self):
        """Opens a connection that half a request comes on, and keeps the newest twenty of them open."""
        connection = socket.create_connection((self.host, self.port), timeout=60)
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{")
        self.idle.append(connection)
        if len(self.idle) > 20:
            self.idle.popleft().close()

    def note(self, fault):
        with self.lock:
            self.faults.append(fault)

    def memory(self):
        """Megabytes of the server's process that are its own: the mapped file of the model is not."""
        if not self.process:
            return None
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        return None

    def run(self, seconds, clients, seed=1):
        """Puts the server under stress; what its memory was, in megabytes."""
        end = time.monotonic() + seconds
        memory = []

        def client(number):
            chance = random.Random(seed * 1000 + number)
            while time.monotonic() < end:
                self.one(chance)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(min(5, seconds / 20))
            if time.monotonic() < end:
                memory.append(self.memory())
        for index, expected in enumerate(self.expected):
            if self.whole(index)[1] != expected:
                self.note(f"after the end request {index} gives another answer than at the beginning")
        return [value for value in memory if value is not None]

    def check_memory(self, memory):
        """Flat: once caches are full, means of a twelfth of the time are within 5 % of their median."""
        part = max(1, len(memory) // 12)
        means = [statistics.fmean(memory[place : place + part]) for place in range(0, len(memory) - part + 1, part)]
        # Caches fill in the first third.
        steady = means[len(means) // 3 :]
        if not steady:
            return {}
        middle = statistics.median(steady)
        spread = max(abs(value - middle) for value in steady) / middle
        if spread > 0.05:
            self.note(f"memory is not flat: {[round(value) for value in means]} MB")
        return {"means_mb": [round(value, 1) for value in means], "spread_percent": round(100 * spread, 2)}

    def report(self):
        counts = {f"{kind} {status}": count for (kind, status), count in sorted(self.counts.items(), key=str)}
        return {"requests": counts, "faults": self.faults[:20]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--key", default="none")
    parser.add_argument("--process", type=int, help="the server's process, whose memory is watched")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    address = urlsplit(arguments.base)
    if address.hostname not in ("127.0.0.1", "localhost", "::1"):
        sys.exit("only servers on this machine are put under stress")
    stress = Stress(address, arguments.key, arguments.process)
    memory = stress.run(arguments.seconds, arguments.clients, arguments.seed)
    # A few minutes fill caches and no more.
    flat = stress.check_memory(memory) if arguments.seconds >= 600 else {"mb": [round(value, 1) for value in memory]}
    print(json.dumps({"memory": flat, **stress.report()}, indent=2))
    sys.exit(1 if stress.faults else 0)


if __name__ == "__main__":
    main()
