"""Answers that keep to a JSON schema, from models that have no idea of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from house import House, request
from mlx_engine import kernels
from mlx_engine.protocol import Done, Error, Token


@pytest.fixture(scope="module", autouse=True)
def with_kernels() -> Iterator[None]:
    with kernels.patched(kernels.load()):
        yield


@pytest.fixture(scope="module")
def house() -> House:
    return House()


SHORT = {"type": "string", "maxLength": 8}
LEAVES = st.sampled_from(
    [
        SHORT,
        {"type": "integer", "minimum": 0, "maximum": 99},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["red", "grün", 3]},
        {"const": "fixed"},
        {"type": ["string", "null"], "maxLength": 4},
        {"type": "string", "pattern": "^[a-c]{1,4}$"},
    ]
)


def grown(inner: st.SearchStrategy) -> st.SearchStrategy:
    objects = st.dictionaries(st.sampled_from(["a", "b b", "ç", '"q"']), inner, max_size=3).flatmap(
        lambda properties: st.builds(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            },
            st.sets(st.sampled_from(sorted(properties))) if properties else st.just(set()),
        )
    )
    arrays = st.builds(
        lambda items, least: {"type": "array", "items": items, "minItems": least, "maxItems": 2},
        inner,
        st.integers(0, 2),
    )
    return objects | arrays | st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})


SCHEMAS = st.recursive(LEAVES, grown, max_leaves=3).map(
    lambda schema: {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False}
)


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """JSON Schema, as much of it as is used here."""
    if "anyOf" in schema:
        return any(valid(value, option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return any(
            value == option and type(value) is type(option) for option in schema.get("enum", [schema.get("const")])
        )
    kinds = {"string": str, "integer": int, "boolean": bool, "null": type(None), "object": dict, "array": list}
    allowed = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if type(value) not in [kinds[name] for name in allowed]:
        return False
    if isinstance(value, str):
        return len(value) <= schema.get("maxLength", 4) and (
            "pattern" not in schema or (set(value) <= set("abc") and value != "")
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return schema["minimum"] <= value <= schema["maximum"]
    if isinstance(value, list):
        return schema["minItems"] <= len(value) <= 2 and all(valid(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        properties = schema["properties"]
        known = all(name in properties and valid(item, properties[name]) for name, item in value.items())
        return known and set(schema["required"]) <= set(value)
    return True


ASKED = st.lists(
    st.fixed_dictionaries(
        {
            "json_schema": SCHEMAS | st.none(),
            "temperature": st.sampled_from([0.0, 1.0, 2.0]),
            "seed": st.integers(0, 2**32 - 1),
            "max_tokens": st.sampled_from([8, 120]),
            "n": st.sampled_from([1, 1, 2]),
            "repetition_penalty": st.sampled_from([1.0, 1.3]),
        }
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=12)
@given(asked=ASKED)
def test_every_answer_is_valid_unless_it_was_cut(chat, house, asked):
    requests = [request(str(i), chat, text=f"Value {i}", **options) for i, options in enumerate(asked)]
    house.frames.clear()
    for done in house.ask(*requests):
        assert isinstance(done, Done), done
        schema = requests[int(done.id)].json_schema
        for choice in done.choices:
            if schema is not None and choice.finish_reason == "stop":
                assert valid(json.loads(choice.text), schema), (choice.text, schema)
            elif schema is not None:
                assert choice.completion_tokens == requests[int(done.id)].max_tokens


SCHEMA = {
    "type": "object",
    "properties": {"a": SHORT, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def test_answers_end_are_reproducible_and_tell_logprobs(chat):
    options = {"json_schema": SCHEMA, "temperature": 1.0, "seed": 5, "n": 2, "max_tokens": 200, "logprobs": 1}
    house = House()
    (alone,) = house.ask(request("a", chat, text="Hi", **options))
    told = [
        entry for frame in house.frames if isinstance(frame, Token) and frame.index == 0 for entry in frame.logprobs
    ]
    assert [choice.finish_reason for choice in alone.choices] == ["stop", "stop"]
    assert len(told) == alone.choices[0].completion_tokens
    assert {tuple(sorted(json.loads(choice.text))) for choice in alone.choices} == {("a", "b")}
    others = [
        request(str(i), chat, text="Other", max_tokens=40, json_schema=None if i % 2 else SCHEMA) for i in range(4)
    ]
    beside = House().ask(*others[:2], request("a", chat, text="Hi", **options), *others[2:])[2]
    assert beside.choices == alone.choices


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nonsense"}, "Invalid type: nonsense"),
        ({"$ref": "#/nowhere"}, "does not exist"),
        ({"not": {"type": "string"}}, 'keywords that are not supported: ["not"]'),
        ({"enum": []}, "allows no value"),
        ({"$ref": "https://example.com/a"}, "can only name what is in the schema itself"),
        ({"type": "string", "pattern": "("}, "regex"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused_and_harms_nobody(chat, house, schema, said):
    house.frames.clear()
    good, bad = house.ask(
        request("good", chat, max_tokens=5), request("bad", chat, json_schema=schema, max_tokens=2000)
    )
    assert isinstance(good, Done)
    assert isinstance(bad, Error)
    assert bad.kind == "invalid_parameters"
    assert bad.message.startswith("response_format.json_schema.schema: ")
    assert said in bad.message


def test_a_cancelled_one_leaves_the_others_as_they_are(chat):
    house = House()
    for id in "abc":
        house.scheduler.submit(request(id, chat, json_schema=SCHEMA, max_tokens=200, temperature=1.0, seed=1))
    while not any(isinstance(frame, Token) for frame in house.frames):
        house.scheduler.step()
    house.scheduler.cancel("b")
    house.run()
    ends = house.ends()
    assert ends["a"].text == ends["c"].text
    assert valid(json.loads(ends["a"].text), SCHEMA)
