#!/usr/bin/env python3
"""Sends what should not harm a server of OpenAI's protocol, and holds its answers against those it gives in peace.

    python3 Benchmarks/serving/stress.py http://127.0.0.1:8080 --seconds 300 --process PID

16 clients: whole and streamed requests, random cancels, slow readers, broken JSON, bodies that are too large, and
connections that stay half open. Exits with 1 where a complete answer differs from that of the same request alone, or
a request is answered with 500, or the server is gone. Standard library only; loopback addresses only.
"""

import argparse
import collections
import http.client
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

PROMPTS = [
    (f"Write {2 + index % 4} sentences about {topic}.", 8 + 7 * (index % 5), index % 3 == 0)
    for index, topic in enumerate(
        ["a mill", "the tide", "rivers", "bread", "a lighthouse", "herons", "boats", "a bridge", "rain", "a town"]
    )
]


def body(index, stream=False, tokens=None):
    text, count, sampled = PROMPTS[index]
    fields = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens or count,
        "stream": stream,
        "temperature": 1 if sampled else 0,
        "seed": index,
    }
    return json.dumps(fields).encode()


class Stress:
    def __init__(self, address, key, process):
        self.host, self.port = address.hostname, address.port or 80
        self.key, self.process = key, process
        self.counts = collections.Counter()
        self.faults = []
        self.lock = threading.Lock()
        self.expected = [self.whole(index)[1] for index in range(len(PROMPTS))]

    def headers(self):
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}

    def post(self, data, timeout=120):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        connection.request("POST", "/v1/chat/completions", data, self.headers())
        return connection, connection.getresponse()

    def whole(self, index):
        connection, response = self.post(body(index))
        answer = json.load(response)
        connection.close()
        text = answer["choices"][0]["message"]["content"] if response.status == 200 else None
        return response.status, text

    def streamed(self, index, chance, pause=0.0, leaves=False):
        connection, response = self.post(body(index, stream=True))
        if response.status != 200:
            response.read()
            connection.close()
            return response.status, None
        text = ""
        for line in response:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                text += (event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""
            if pause:
                time.sleep(pause)
            if leaves and chance.random() < 0.2:
                connection.sock and connection.sock.close()
                connection.close()
                return 0, None
        connection.close()
        return 200, text

    def one(self, chance):
        index = chance.randrange(len(PROMPTS))
        kind = chance.choices(
            ["whole", "stream", "slow", "leave", "broken", "large", "half", "garbage"], [4, 4, 1, 4, 2, 1, 1, 1]
        )[0]
        status, text = None, None
        try:
            if kind == "whole":
                status, text = self.whole(index)
            elif kind == "stream":
                status, text = self.streamed(index, chance)
            elif kind == "slow":
                status, text = self.streamed(index, chance, pause=0.05)
            elif kind == "leave":
                self.streamed(index, chance, leaves=True)
            elif kind == "broken":
                data = bytearray(body(index))
                for _ in range(chance.randint(1, 4)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                connection, response = self.post(bytes(data))
                response.read()
                status = response.status
                connection.close()
            elif kind == "large":
                connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
                connection.request("POST", "/v1/chat/completions", b"{" + b" " * (5 << 20), self.headers())
                status = connection.getresponse().status
                connection.close()
            else:
                half = socket.create_connection((self.host, self.port), timeout=60)
                text_sent = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n"
                half.sendall(text_sent if kind == "half" else bytes(chance.randrange(256) for _ in range(200)))
                time.sleep(chance.random())
                half.close()
        except (OSError, http.client.HTTPException) as error:
            # A server that hangs up on a body that is too large may reset the connection while it is sent.
            if kind not in ("large", "garbage", "broken", "leave"):
                self.note(f"{kind}: {error!r}")
        with self.lock:
            self.counts[kind, status] += 1
        if status == 500:
            self.note(f"{kind}: 500")
        if text is not None and text != self.expected[index]:
            self.note(f"{kind}: request {index} gave another text: {text!r}, alone {self.expected[index]!r}")

    def note(self, fault):
        with self.lock:
            self.faults.append(fault)

    def memory(self):
        """Megabytes of the server's process."""
        if not self.process:
            return None
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return None


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
    end = time.monotonic() + arguments.seconds

    def client(number):
        chance = random.Random(arguments.seed * 1000 + number)
        while time.monotonic() < end:
            stress.one(chance)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients)]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(5, arguments.seconds / 10))
        memory.append(stress.memory())
    for thread in threads:
        thread.join()
    alive = [stress.whole(index)[1] == stress.expected[index] for index in range(len(PROMPTS))]
    if not all(alive):
        stress.note("after the end: answers differ from those at the beginning")
    counts = {f"{kind} {status}": count for (kind, status), count in sorted(stress.counts.items(), key=str)}
    known = [round(value, 1) for value in memory if value is not None]
    print(json.dumps({"requests": counts, "memory_mb": known, "faults": stress.faults[:20]}, indent=2))
    sys.exit(1 if stress.faults else 0)


if __name__ == "__main__":
    main()
