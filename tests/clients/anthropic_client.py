"""Anthropic's own client against `ft serve MODEL`: one line a check."""

import anthropic

from server import Checks, Server

# Newer clients have no name for it.
COLD = {"extra_body": {"temperature": 0}}
ASK = [{"role": "user", "content": "Say hello to a cat."}]
TOOL = {"name": "read_file", "description": "Reads a file", "input_schema": {
    "type": "object", "properties": {"path": {"type": "string", "maxLength": 20}}, "required": ["path"],
    "additionalProperties": False}}

check = Checks()
with Server() as server:
    client = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0,
                                 default_headers={"anthropic-beta": "some-beta-2099-01-01"})
    create = client.messages.create

    def listed():
        assert [model.id for model in client.models.list()] == ["tested"]

    def message():
        answer = create(model="tested", max_tokens=24, messages=ASK, system="You are brief.", **COLD)
        assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens")
        assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 5 and answer.usage.output_tokens <= 24
        return repr(answer.content[0].text[:40])

    def system_blocks():
        blocks = [{"type": "text", "text": "You are ", "cache_control": {"type": "ephemeral"}},
                  {"type": "text", "text": "brief."}]
        one = create(model="tested", max_tokens=12, messages=ASK, system=blocks, **COLD)
        two = create(model="tested", max_tokens=12, messages=ASK, system="You are brief.", **COLD)
        assert one.content[0].text == two.content[0].text

    def stream():
        whole = create(model="tested", max_tokens=24, messages=ASK, **COLD)
        kinds = []
        with client.messages.stream(model="tested", max_tokens=24, messages=ASK, **COLD) as events:
            for event in events:
                kinds.append(event.type)
            final = events.get_final_message()
        assert final.content[0].text == whole.content[0].text
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
        assert final.usage.output_tokens == whole.usage.output_tokens and final.stop_reason == whole.stop_reason

    def stop_sequence():
        whole = create(model="tested", max_tokens=24, messages=ASK, **COLD).content[0].text
        word = whole.split()[1]
        cut = create(model="tested", max_tokens=24, messages=ASK, stop_sequences=[word], **COLD)
        assert cut.stop_reason == "stop_sequence" and cut.stop_sequence == word

    def tool_use():
        answer = create(model="tested", max_tokens=60, messages=ASK, tools=[TOOL], tool_choice={"type": "any"})
        call = next(block for block in answer.content if block.type == "tool_use")
        assert call.name == "read_file" and set(call.input) == {"path"} and answer.stop_reason == "tool_use"
        again = create(model="tested", max_tokens=12, tools=[TOOL], messages=[
            *ASK, {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "a cat"}]}])
        assert again.stop_reason
        return str(call.input)

    def streamed_tool():
        with client.messages.stream(model="tested", max_tokens=60, messages=ASK, tools=[TOOL],
                                    tool_choice={"type": "tool", "name": "read_file"}) as events:
            final = events.get_final_message()
        assert set(final.content[-1].input) == {"path"} and final.stop_reason == "tool_use"

    def count_tokens():
        counted = client.messages.count_tokens(model="tested", messages=ASK, system="You are brief.")
        answer = create(model="tested", max_tokens=1, messages=ASK, system="You are brief.")
        assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
        with_tools = client.messages.count_tokens(model="tested", messages=ASK, tools=[TOOL])
        assert with_tools.input_tokens > counted.input_tokens
        return str(counted.input_tokens)

    def refused():
        for extra, word in [({"frobnicate": 1}, "frobnicate"), ({"temperature": 9}, "temperature"),
                            ({"top_k": -5}, "top_k")]:
            try:
                create(model="tested", max_tokens=5, messages=ASK, extra_body=extra)
                raise AssertionError(f"{extra} was accepted")
            except anthropic.BadRequestError as error:
                assert error.body["type"] == "error" and f"`{word}`" in error.body["error"]["message"], error.body
        try:
            create(model="claude-none", max_tokens=5, messages=ASK)
            raise AssertionError("an unknown model was accepted")
        except anthropic.NotFoundError:
            pass

    def unsupported():
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
        for fields, named in [({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0]"),
                              ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
                              ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "none"}}, "tool_choice")]:
            try:
                create(**{"model": "tested", "max_tokens": 4, "messages": ASK, **fields})
                raise AssertionError(f"{fields} was accepted")
            except anthropic.BadRequestError as error:
                assert f"`{named}`" in error.body["error"]["message"], error.body

    def beta():
        answer = client.beta.messages.create(model="tested", max_tokens=8, messages=ASK, betas=["never-heard-of-2099-01-01"],
                                             **COLD)
        assert answer.content[0].text == create(model="tested", max_tokens=8, messages=ASK, **COLD).content[0].text

    for function in [listed, message, system_blocks, stream, stop_sequence, tool_use, streamed_tool, count_tokens,
                     beta, unsupported, refused]:
        check.run(f"anthropic {anthropic.__version__}: {function.__name__}", function)
check.end()
