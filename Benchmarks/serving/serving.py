#!/usr/bin/env python3
"""Sends mixed requests to a server of OpenAI's protocol and prints throughput and times to the first token.

    python3 Benchmarks/serving/serving.py http://127.0.0.1:8080 [--name egress] [--json out.json]
    python3 Benchmarks/serving/serving.py http://127.0.0.1:8080 --documents docs.jsonl [--route summarize]

Standard library only. Every server gets the same requests in the same order: the lengths of prompts and outputs are
drawn with a fixed seed, and a third of the prompts are questions about one and the same document.
"""

import argparse
import json
import queue
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts"))
from egress_tools import percentile, read_lines

ROOT = Path(__file__).resolve().parents[2]


def make_requests(count, seed):
    """(count) messages and numbers of tokens to generate."""
    chance = random.Random(seed)
    document = (ROOT / "Examples" / "tide-mill.txt").read_text()
    words = document.split()
    topics = ["mill", "creek", "tide", "flour", "dam", "wheel", "miller", "town", "roller", "grain"]
    requests = []
    for index in range(count):
        kind = index % 3
        if kind == 0:
            text = f"{document}\n\nQuestion: What does the text say about the {chance.choice(topics)}?"
            tokens = chance.randint(8, 48)
        elif kind == 1:
            start = chance.randrange(len(words))
            part = " ".join((words + words)[start : start + chance.randint(40, 300)])
            text = f"{part}\n\nSummarize in 2 sentences."
            tokens = chance.randint(40, 100)
        else:
            text = f"Write {chance.randint(2, 5)} sentences about a {chance.choice(topics)}."
            tokens = chance.randint(60, 160)
        requests.append((text, tokens))
    chance.shuffle(requests)
    return requests


def make_summaries(path, count, route):
    """(count) documents to summarise: as such, or as a message for servers that know nothing of documents."""
    documents = [record["document"] for record in read_lines(path, count)]
    if route == "summarize":
        return [(document, None) for document in documents]
    return [(f"{document}\n\nSummarize in one sentence.", 60) for document in documents]


def ask(base, model, key, text, tokens, timeout):
    """Seconds to the first text and in all, and tokens generated, of one streamed request.

    Without a number of tokens the text is a document for /v1/egress/summarize.
    """
    if tokens is None:
        body, route = {"model": model, "document": text, "stream": True}, "/v1/egress/summarize"
    else:
        body, route = chat(model, text, tokens), "/v1/chat/completions"
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(base + route, json.dumps(body).encode(), headers, method="POST")
    start = time.perf_counter()
    first = None
    usage = None
    with urllib.request.urlopen(request, timeout=timeout) as response:
        for line in response:
            if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            usage = event.get("usage") or usage
            choices = event.get("choices") or [{}]
            if first is None and (event.get("text") or (choices[0].get("delta") or {}).get("content")):
                first = time.perf_counter() - start
    seconds = time.perf_counter() - start
    return first if first is not None else seconds, seconds, (usage or {}).get("completion_tokens", 0)


def chat(model, text, tokens):
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def run(base, model, key, requests, clients, timeout):
    work = queue.Queue()
    for request in requests:
        work.put(request)
    results, failures, lock = [], [], threading.Lock()

    def client():
        while True:
            try:
                text, tokens = work.get_nowait()
            except queue.Empty:
                return
            try:
                result = ask(base, model, key, text, tokens, timeout)
            except (urllib.error.URLError, RuntimeError, OSError) as error:
                with lock:
                    failures.append(str(error))
                continue
            with lock:
                results.append(result)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    tokens = sum(result[2] for result in results)
    firsts = [result[0] for result in results]
    return {
        "requests": len(results),
        "failures": len(failures),
        "first_failure": failures[0] if failures else None,
        "clients": clients,
        "seconds": round(seconds, 2),
        "output_tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "requests_per_second": round(len(results) / seconds, 3),
        "first_token_p50": round(percentile(firsts, 0.5), 3),
        "first_token_p95": round(percentile(firsts, 0.95), 3),
        "request_p95": round(percentile([result[1] for result in results], 0.95), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="address of the server, without /v1")
    parser.add_argument("--name", help="what to call the server in the output")
    parser.add_argument("--model", help="the model's name (default: the first of /v1/models)")
    parser.add_argument("--key", default="none")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", help="summarise the documents of this JSON Lines file instead")
    parser.add_argument("--route", choices=["chat", "summarize"], default="chat", help="how, with --documents")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--json", help="write the figures to this file as well")
    arguments = parser.parse_args()
    base = arguments.base.rstrip("/")
    model = arguments.model
    if model is None:
        request = urllib.request.Request(base + "/v1/models", headers={"Authorization": f"Bearer {arguments.key}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            model = json.load(response)["data"][0]["id"]
    if arguments.documents:
        requests = make_summaries(arguments.documents, arguments.requests, arguments.route)
    else:
        requests = make_requests(arguments.requests, arguments.seed)
    # Loads what is loaded on first use; not counted.
    ask(base, model, arguments.key, "Hello", 2, arguments.timeout)
    figures = run(base, model, arguments.key, requests, arguments.clients, arguments.timeout)
    figures = {"server": arguments.name or base, "model": model, **figures}
    print(json.dumps(figures, indent=2))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
