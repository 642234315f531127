#!/usr/bin/env python3
"""Speaks to a server of egress with openai-python, and runs the examples of docs/guides/serve.md.

    pip install openai langchain-openai llm
    python3 Tests/Scripts/check_clients.py .build/release/egress [MODEL]

Starts servers of its own. Prints what was looked at; exits with 1 at the first thing that is not so.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import openai
from openai import OpenAI
from pydantic import BaseModel
from serve_process import ROOT, serving

KEY = "a-key"
ASKED = [{"role": "user", "content": "Write three sentences about a mill."}]


class Mill(BaseModel):
    place: str
    year: int


def client(base, key=KEY):
    return OpenAI(base_url=base + "/v1", api_key=key, max_retries=0)


def refused(kind, status, call, code=None, param=None):
    """The error that a call raises."""
    try:
        call()
    except openai.APIStatusError as error:
        assert isinstance(error, kind) and error.status_code == status, error
        assert code is None or error.code == code, (error.code, code)
        assert param is None or error.param == param, (error.param, param)
        return error
    raise AssertionError(f"expected {status}")


def check_answers(api, model):
    """Whole and streamed answers, and every field that changes them."""
    chat = api.chat.completions
    assert [entry.id for entry in api.models.list().data] == [model] and api.models.retrieve(model).id == model
    whole = chat.create(model=model, messages=ASKED, max_tokens=24)
    text = whole.choices[0].message.content
    assert whole.system_fingerprint.startswith("fp_") and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    egress = whole.model_extra["egress"]
    assert egress["certificate"] is None and egress["average_layer"] == egress["layer_count"]
    chunks = list(
        chat.create(model=model, messages=ASKED, max_tokens=24, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage and all(chunk.usage is None for chunk in chunks[:-1])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    names = "temperature top_p n stop seed logit_bias response_format tools tool_choice stream stream_options"
    nulls = dict.fromkeys((names + " presence_penalty frequency_penalty user logprobs top_logprobs").split())
    same = chat.create(model=model, messages=ASKED, max_tokens=24, extra_body=nulls)
    assert same.choices[0].message.content == text and same.system_fingerprint == whole.system_fingerprint
    parts = [{"role": "user", "content": [{"type": "text", "text": ASKED[0]["content"]}]}]
    assert chat.create(model=model, messages=parts, max_completion_tokens=24).choices[0].message.content == text
    drawn = [chat.create(model=model, messages=ASKED, max_tokens=8, n=3, temperature=1, seed=5) for _ in range(2)]
    texts = [[choice.message.content for choice in answer.choices] for answer in drawn]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1, texts
    told = chat.create(model=model, messages=ASKED, max_tokens=4, logprobs=True, top_logprobs=3).choices[0]
    first = told.logprobs.content[0]
    assert first.token == first.top_logprobs[0].token and len(first.top_logprobs) == 3 and first.logprob <= 0
    word = text.split()[1]
    cut = chat.create(model=model, messages=ASKED, max_tokens=24, stop=[word, "zebra"]).choices[0]
    assert word not in cut.message.content and cut.finish_reason == "stop"
    parsed = chat.parse(model=model, messages=ASKED, response_format=Mill, max_tokens=60).choices[0].message.parsed
    assert isinstance(parsed, Mill)
    raw = api.completions.create(model=model, prompt=["The mill", "A river"], max_tokens=5, echo=True)
    assert [choice.text.startswith(start) for choice, start in zip(raw.choices, ["The mill", "A river"])] == [True] * 2
    token = api.completions.create(model=model, prompt="The mill", max_tokens=1, logprobs=1)
    other = api.completions.create(
        model=model, prompt="The mill", max_tokens=1, logit_bias=dict.fromkeys(map(str, range(300, 1300)), -100)
    )
    assert token.choices[0].logprobs.tokens and other.choices[0].text is not None
    document = (ROOT / "Examples" / "tide-mill.txt").read_text()[:2000]
    body = {"document": document, "question": "When did the mill close?"}
    answer = api.post("/egress/answer", cast_to=object, body=body)
    place = answer["source"]
    if place:
        assert document[place["start"] : place["end"]].lower() in answer["text"].lower(), answer
    assert api.post("/egress/summarize", cast_to=object, body={"document": document})["sentences"]


def check_refusals(api, base, model):
    """Statuses, codes and fields of what is refused; a connection is good for the next request after each."""
    chat = api.chat.completions
    refused(openai.AuthenticationError, 401, client(base, "wrong").models.list, "invalid_api_key")
    refused(openai.NotFoundError, 404, lambda: chat.create(model="x", messages=ASKED), "model_not_found", "model")
    refused(openai.NotFoundError, 404, lambda: api.models.retrieve("x"), "model_not_found")
    tool = {"type": "function", "function": {"name": "a", "parameters": {}}}
    refused(openai.BadRequestError, 400, lambda: chat.create(model=model, messages=ASKED, tools=[tool]), param="tools")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    refused(
        openai.BadRequestError,
        400,
        lambda: chat.create(model=model, messages=image),
        param="messages[0].content[0].type",
    )
    long = [{"role": "user", "content": "word " * 30_000}]
    code = "context_length_exceeded"
    refused(openai.BadRequestError, 400, lambda: chat.create(model=model, messages=long), code, "messages")
    for _ in range(2):
        large = [{"role": "user", "content": "a" * (5 << 20)}]
        # The server hangs up on who goes on sending; some systems lose its answer then.
        with contextlib.suppress(openai.APIConnectionError):
            refused(openai.APIStatusError, 413, lambda: chat.create(model=model, messages=large), "request_too_large")
        assert api.models.list().data


def check_load(program, model):
    """503 until the model is there, and 429 with Retry-After when the queue is full."""
    with serving(program, "--model", model, "--slots", "1", "--queue", "0", until="listening at") as base:
        api = client(base)
        error = None
        while True:
            try:
                api.models.list()
                break
            except openai.InternalServerError as loading:
                error = loading
        # A machine may be so fast that nobody sees it load.
        assert error is None or (error.status_code == 503 and error.code == "loading"), error
        begun, go_on = threading.Event(), threading.Event()

        def hold():
            stream = api.chat.completions.create(
                model=model, messages=ASKED, max_tokens=4000, temperature=2, seed=1, stream=True
            )
            for _ in stream:
                begun.set()
                if go_on.is_set():
                    stream.close()
                    return

        holder = threading.Thread(target=hold)
        holder.start()
        assert begun.wait(120)
        full = refused(
            openai.RateLimitError, 429, lambda: api.chat.completions.create(model=model, messages=ASKED), "queue_full"
        )
        assert int(full.response.headers["retry-after"]) >= 1
        go_on.set()
        holder.join()


def check_examples(base):
    """What the guide shows, as it stands there but for the address."""
    text = (ROOT / "docs" / "guides" / "serve.md").read_text().replace("http://127.0.0.1:8080", base)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    programs = [code for kind, code in blocks if kind == "python"]
    assert len(programs) >= 2
    for code in programs:
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 0 and result.stdout.strip(), (code, result.stdout, result.stderr)
    models = [code for kind, code in blocks if kind == "yaml"]
    commands = [line for kind, code in blocks if not kind for line in code.splitlines() if line.startswith("llm ")]
    assert len(models) == 1 and commands
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "extra-openai-models.yaml").write_text(models[0])
        place = str(Path(sys.executable).parent)
        environment = {**os.environ, "LLM_USER_PATH": folder, "PATH": place + ":" + os.environ["PATH"]}
        for command in commands:
            result = subprocess.run(
                command,
                shell=True,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0 and result.stdout.strip(), (command, result.stdout, result.stderr)


def main():
    program = sys.argv[1]
    model = sys.argv[2] if len(sys.argv) > 2 else "smollm2-135m-reader"
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write(KEY + "\n")
        keys.flush()
        with serving(program, "--model", model, "--api-key-file", keys.name) as base:
            api = client(base)
            served = api.models.list().data[0].id
            check_answers(api, served)
            print("answers: as OpenAI's client reads them")
            check_refusals(api, base, served)
            print("refusals: 400, 401, 404, 413")
    check_load(program, model)
    print("load: 503 while loading, 429 with Retry-After")
    with serving(program, "--model", model) as base:
        check_examples(base)
    print("examples of docs/guides/serve.md: openai-python, LangChain, llm")


if __name__ == "__main__":
    main()
