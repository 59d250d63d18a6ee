"""OpenAI's own client against `ft serve MODEL`: one line a check."""

import json
import typing

import openai

from server import Checks, Server

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                   "kind": {"enum": ["cat", "dog"]}},
    "required": ["name", "age", "kind"], "additionalProperties": False,
}
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
                                                    "unit": {"enum": ["C", "F"]}},
                   "required": ["city", "unit"], "additionalProperties": False}}}
ASK = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say hello to a cat."}]

check = Checks()
with Server() as server:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    create = client.chat.completions.create

    def listed():
        models = client.models.list().data
        assert [model.id for model in models] == ["tested"], models
        assert client.models.retrieve("tested").id == "tested"

    def chat():
        answer = create(model="tested", messages=ASK, max_tokens=24, temperature=0)
        choice = answer.choices[0]
        assert choice.message.content and choice.finish_reason in ("stop", "length")
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        return repr(choice.message.content[:40])

    def seeded():
        one, two = (create(model="tested", messages=ASK, max_tokens=24, temperature=1, seed=7) for _ in "ab")
        other = create(model="tested", messages=ASK, max_tokens=24, temperature=1, seed=8)
        assert one.choices[0].message.content == two.choices[0].message.content
        assert one.choices[0].message.content != other.choices[0].message.content

    def stream():
        text, usage, finish, chunks = "", None, None, 0
        for chunk in create(model="tested", messages=ASK, max_tokens=24, temperature=0, stream=True,
                            stream_options={"include_usage": True}):
            chunks += 1
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        whole = create(model="tested", messages=ASK, max_tokens=24, temperature=0)
        assert text == whole.choices[0].message.content, (text, whole)
        assert usage.completion_tokens == whole.usage.completion_tokens and finish and chunks > 3

    def several():
        answer = create(model="tested", messages=ASK, max_tokens=8, n=3, seed=1, temperature=1)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]

    def logprobs():
        answer = create(model="tested", messages=ASK, max_tokens=5, temperature=0, logprobs=True, top_logprobs=2)
        content = answer.choices[0].logprobs.content
        assert content and all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in content)
        assert all(token.logprob == token.top_logprobs[0].logprob for token in content), "greedy is the likeliest"

    def stop():
        whole = create(model="tested", messages=ASK, max_tokens=24, temperature=0).choices[0].message.content
        word = whole.split()[1]
        cut = create(model="tested", messages=ASK, max_tokens=24, temperature=0, stop=[word])
        assert cut.choices[0].message.content == whole[:whole.index(word)] and cut.choices[0].finish_reason == "stop"

    def required_tool():
        answer = create(model="tested", messages=[{"role": "user", "content": "Weather in Oslo?"}], tools=[TOOL],
                        tool_choice="required", max_tokens=80, seed=1)
        call = answer.choices[0].message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        assert call.function.name == "weather" and set(arguments) == {"city", "unit"} and arguments["unit"] in "CF"
        assert answer.choices[0].finish_reason == "tool_calls" and call.id
        again = create(model="tested", max_tokens=16, tools=[TOOL], messages=[
            {"role": "user", "content": "Weather in Oslo?"}, answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"}])
        assert again.choices[0].finish_reason
        return call.function.arguments

    def streamed_tool():
        name, arguments, finish = "", "", None
        for chunk in create(model="tested", messages=[{"role": "user", "content": "Weather in Rome?"}], tools=[TOOL],
                            tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=80,
                            stream=True):
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                for call in choice.delta.tool_calls or []:
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
        assert name == "weather" and set(json.loads(arguments)) == {"city", "unit"} and finish == "tool_calls"

    def schema():
        valid = 0
        for seed in range(30):
            answer = create(model="tested", messages=[{"role": "user", "content": f"Describe pet {seed} as JSON."}],
                            max_tokens=60, temperature=1, seed=seed, response_format={
                                "type": "json_schema", "json_schema": {"name": "pet", "schema": PERSON}})
            pet = json.loads(answer.choices[0].message.content)
            valid += (set(pet) == {"name", "age", "kind"} and isinstance(pet["name"], str)
                      and 0 <= pet["age"] <= 120 and pet["kind"] in ("cat", "dog"))
        assert valid == 30, valid
        return f"{valid} of 30 valid"

    def json_object():
        answer = create(model="tested", messages=[{"role": "user", "content": "Answer in JSON: who are you?"}],
                        max_tokens=60, temperature=0.8, seed=2, response_format={"type": "json_object"})
        assert isinstance(json.loads(answer.choices[0].message.content), dict)

    def grammars():
        for field, value, fits in [("guided_choice", ["yes", "no"], lambda text: text in ("yes", "no")),
                                   ("guided_regex", "[0-9]{3}-[0-9]{2}", lambda text: len(text) == 6 and text[3] == "-"),
                                   ("guided_grammar", 'start: "a" ("b" | "c")', lambda text: text in ("ab", "ac"))]:
            answer = create(model="tested", messages=ASK, max_tokens=20, extra_body={field: value})
            assert fits(answer.choices[0].message.content), (field, answer.choices[0].message.content)

    def completions():
        answer = client.completions.create(model="tested", prompt=["One two", "A b c"], max_tokens=4, temperature=0)
        assert [choice.index for choice in answer.choices] == [0, 1] and answer.choices[0].text

    def echo():
        ids = json.loads(server.ask("/tokenize", {"prompt": "The capital of France is"})[2])["tokens"]
        answer = client.completions.create(model="tested", prompt=[ids], max_tokens=1, temperature=0, logprobs=1,
                                           echo=True, seed=1234)
        scores = answer.choices[0].logprobs
        assert len(scores.token_logprobs) == len(ids) + 1 and scores.token_logprobs[0] is None
        assert scores.token_logprobs[-1] == max(scores.top_logprobs[-1].values()), "the greedy token is the likeliest"
        assert answer.choices[0].text.startswith("The capital of France is")

    def embeddings():
        data = client.embeddings.create(model="tested", input=["a cat", "a small cat", "tax law"]).data
        dot = lambda a, b: sum(x * y for x, y in zip(data[a].embedding, data[b].embedding))  # noqa: E731
        assert abs(dot(0, 0) - 1) < 1e-3 and dot(0, 1) > dot(0, 2)
        plain = client.embeddings.create(model="tested", input="a cat", encoding_format="float").data[0].embedding
        assert max(abs(a - b) for a, b in zip(plain, data[0].embedding)) < 1e-6

    def responses():
        answer = client.responses.create(model="tested", input="Say hello.", instructions="Be brief.",
                                         max_output_tokens=16, temperature=0, store=False)
        assert answer.output_text and answer.usage.output_tokens <= 16
        text = ""
        with client.responses.stream(model="tested", input="Say hello.", instructions="Be brief.",
                                     max_output_tokens=16, temperature=0, store=False) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    text += event.delta
        assert text == answer.output_text, (text, answer.output_text)

    def responses_tool():
        tool = {"type": "function", **TOOL["function"]}
        answer = client.responses.create(model="tested", input="Weather in Oslo?", tools=[tool], tool_choice="required",
                                         max_output_tokens=80, store=False)
        call = answer.output[0]
        assert call.type == "function_call" and set(json.loads(call.arguments)) == {"city", "unit"}
        again = client.responses.create(model="tested", tools=[tool], max_output_tokens=16, store=False, input=[
            {"role": "user", "content": "Weather in Oslo?"}, call.model_dump(exclude_none=True),
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
        assert again.output

    def strings_make_sense():
        schema = {"type": "object", "properties": {"rows": {"type": "array", "minItems": 1, "maxItems": 2, "items": {
            "type": "object", "properties": {"question": {"type": "string", "minLength": 1},
                                             "answer": {"type": "string", "minLength": 1}},
            "required": ["question", "answer"], "additionalProperties": False}}},
            "required": ["rows"], "additionalProperties": False}
        text = ("A kettle boils water. The copper kettle of 1890 holds two litres. Write 2 questions about it with answers. "
                'Reply with JSON only: {"rows": [{"question": "...", "answer": "..."}]}')
        answer = create(model="tested", messages=[{"role": "user", "content": text}], max_tokens=160, temperature=0,
                        response_format={"type": "json_schema", "json_schema": {"name": "rows", "schema": schema}})
        rows = json.loads(answer.choices[0].message.content)["rows"]
        letters = "".join(row["question"] + row["answer"] for row in rows)
        assert sum(letter.isalpha() or letter in " ?.,'" for letter in letters) > 0.7 * len(letters), letters
        return repr(rows[0]["question"][:60])

    def parsed():
        import pydantic

        class Pet(pydantic.BaseModel):
            name: str = pydantic.Field(max_length=20)
            kind: typing.Literal["cat", "dog"]

        answer = client.chat.completions.parse(model="tested", messages=ASK, max_tokens=60, temperature=0, response_format=Pet)
        assert isinstance(answer.choices[0].message.parsed, Pet), answer
        answer = client.responses.parse(model="tested", input="Describe a pet.", max_output_tokens=60, temperature=0,
                                        text_format=Pet, store=False)
        assert isinstance(answer.output_parsed, Pet), answer
        return repr(answer.output_parsed)

    def penalties_and_biases():
        plain = create(model="tested", messages=ASK, max_tokens=24, temperature=0).choices[0].message.content
        first = json.loads(server.ask("/tokenize", {"prompt": plain, "add_special_tokens": False})[2])["tokens"][0]
        banned = create(model="tested", messages=ASK, max_tokens=24, temperature=0, logit_bias={str(first): -100})
        assert banned.choices[0].message.content != plain
        more = dict(model="tested", messages=ASK, max_tokens=40, temperature=0.8, seed=3)
        answers = {create(**more, **fields).choices[0].message.content for fields in [
            {}, {"frequency_penalty": 2}, {"presence_penalty": -2}, {"top_p": 0.1},
            {"extra_body": {"typical_p": 0.2}}, {"extra_body": {"min_p": 0.9}}, {"extra_body": {"top_k": 1}},
            {"extra_body": {"repetition_penalty": 3}}]}
        assert len(answers) >= 4, answers

    def unsupported():
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
        for fields, named in [({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0]"),
                              ({"messages": [{"role": "user", "content": [audio]}]}, "messages[0].content[0]"),
                              ({"modalities": ["text", "audio"]}, "modalities"), ({"prediction": {"type": "content",
                               "content": "x"}}, "prediction"), ({"reasoning_effort": "high"}, "reasoning_effort"),
                              ({"web_search_options": {}}, "web_search_options"), ({"store": True}, "store")]:
            try:
                create(**{"model": "tested", "messages": ASK, "max_tokens": 4, **fields})
                raise AssertionError(f"{fields} was accepted")
            except openai.BadRequestError as error:
                assert error.param == named, (fields, error.param)

    def refused():
        for extra, field in [({"frobnicate": 1}, "frobnicate"), ({"temperature": 9}, "temperature"),
                             ({"max_tokens": -1}, "max_tokens"), ({"n": 10**6}, "n"), ({"stop": [""]}, "stop"),
                             ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"max_tokens": 2**63}, "max_tokens"),
                             ({"top_k": -5}, "top_k"), ({"max_tokens": 10**6}, "max_tokens")]:
            try:
                create(model="tested", messages=ASK, extra_body=extra)
                raise AssertionError(f"{extra} was accepted")
            except openai.BadRequestError as error:
                assert error.param == field, (extra, error.param, str(error))
        try:
            create(model="other", messages=ASK)
            raise AssertionError("an unknown model was accepted")
        except openai.NotFoundError as error:
            assert error.code == "model_not_found"

    for function in [listed, chat, seeded, stream, several, logprobs, stop, required_tool, streamed_tool, schema,
                     strings_make_sense, parsed, json_object, grammars, penalties_and_biases, completions, echo, embeddings,
                     responses, responses_tool, unsupported, refused]:
        check.run(f"openai {openai.__version__}: {function.__name__}", function)
check.end()
