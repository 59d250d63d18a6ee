"""Ollama's own client against `ft serve MODEL`: one line a check."""

import importlib.metadata
import json

import ollama

from server import Checks, Server

ASK = [{"role": "user", "content": "Say hello to a cat."}]
COLD = {"temperature": 0, "num_predict": 24}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}}}

check = Checks()
with Server() as server:
    client = ollama.Client(host=server.url)

    def listed():
        assert [model.model for model in client.list().models] == ["tested"]
        assert [model.model for model in client.ps().models] == ["tested"]
        assert client.show("tested").modelinfo["general.architecture"]
        assert json.loads(server.ask("/api/version")[2])["version"].count(".") == 2

    def chat():
        answer = client.chat(model="tested:latest", messages=ASK, options=COLD)
        assert answer.message.content and answer.done and answer.eval_count <= 24 and answer.prompt_eval_count > 5
        return repr(answer.message.content[:40])

    def stream():
        whole = client.chat(model="tested", messages=ASK, options=COLD).message.content
        parts = list(client.chat(model="tested", messages=ASK, options=COLD, stream=True))
        assert "".join(part.message.content or "" for part in parts) == whole
        assert parts[-1].done and parts[-1].done_reason in ("stop", "length") and len(parts) > 3

    def generate():
        answer = client.generate(model="tested", prompt="Say hello to a cat.", options=COLD)
        assert answer.response == client.chat(model="tested", messages=ASK, options=COLD).message.content
        raw = client.generate(model="tested", prompt="One two three", raw=True, options=COLD)
        assert raw.response != answer.response
        parts = list(client.generate(model="tested", prompt="Say hello to a cat.", options=COLD, stream=True))
        assert "".join(part.response for part in parts) == answer.response

    def schema():
        answer = client.chat(model="tested", messages=ASK, format=SCHEMA, options={"num_predict": 60, "seed": 1})
        assert set(json.loads(answer.message.content)) == {"name", "age"}
        answer = client.chat(model="tested", messages=ASK, format="json", options={"num_predict": 60, "seed": 1})
        assert isinstance(json.loads(answer.message.content), dict)

    def tools():
        answer = client.chat(model="tested", messages=ASK, tools=[TOOL], options=COLD)
        assert answer.message.content or answer.message.tool_calls
        return f"{len(answer.message.tool_calls or [])} calls"

    def embeddings():
        answer = client.embed(model="tested", input=["a cat", "a small cat", "tax law"])
        one, two, three = answer.embeddings
        dot = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
        assert abs(dot(one, one) - 1) < 1e-3 and dot(one, two) > dot(one, three)

        old = client.embeddings(model="tested", prompt="a cat")
        assert max(abs(a - b) for a, b in zip(old.embedding, one)) < 1e-6

    def lines():
        status, headers, text = server.ask("/api/chat", {"model": "tested", "messages": ASK, "options": COLD})
        parts = [json.loads(line) for line in text.splitlines()]
        assert status == 200 and headers["Content-Type"] == "application/x-ndjson" and len(parts) > 3
        assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True]
        last = parts[-1]
        assert last["eval_count"] <= 24 and last["prompt_eval_count"] > 5 and last["total_duration"] >= last["eval_duration"]
        return f"{len(parts)} lines"

    def tool_results():
        messages = [*ASK, {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
            {"role": "tool", "content": "sunny", "tool_name": "weather"}]
        assert client.chat(model="tested", messages=messages, tools=[TOOL], options=COLD).done

    def refused():
        for arguments, word in [({"options": {"mirostat": 1}}, "options.mirostat"),
                                ({"options": {"temperature": -1}}, "options.temperature"),
                                ({"messages": [{**ASK[0], "images": ["AA=="]}]}, "messages[0].images")]:
            try:
                client.chat(**{"model": "tested", "messages": ASK, **arguments})
                raise AssertionError(f"{arguments} was accepted")
            except ollama.ResponseError as error:
                assert error.status_code == 400 and f"`{word}`" in error.error, error.error
        try:
            client.chat(model="other", messages=ASK)
            raise AssertionError("an unknown model was accepted")
        except ollama.ResponseError as error:
            assert error.status_code == 404

    for function in [listed, chat, stream, generate, schema, tools, tool_results, lines, embeddings, refused]:
        check.run(f"ollama {importlib.metadata.version('ollama')}: {function.__name__}", function)
check.end()
