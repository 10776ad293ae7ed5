import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_engine import platform
from mlx_engine.models.bases import Bases, NoRoomYet
from mlx_engine.models.load import load_model
from mlx_engine.models.prompts import alpaca_text, conversation_text
from mlx_engine.protocol import ChatMessage, EngineError
from mlx_engine.serving.chat import chat_prompt
from serve_client import expected, make_adapter, make_letter, make_parrot, prompt_length, said
from tiny import STRICT, make_tiny_model

# ---- answers ----


def test_greedy_answers_are_the_models_and_the_same_each_time(client, chat):
    first = client.ask(chat, "Give three tips")
    text, count = expected(chat, "Give three tips", 12)
    assert (first["text"], first["completion_tokens"]) == (text, count)
    loaded = load_model(chat, dtype=mx.float32, lazy=True)
    prompt = chat_prompt(loaded.tokenizer, [ChatMessage(role="user", content="Give three tips")])
    assert first["prompt_tokens"] == len(prompt.tokens(loaded.tokenizer))
    client.ask(chat, "something else", temperature=1.0)
    assert said(client.ask(chat, "Give three tips")) == said(first)


def test_a_seed_gives_the_same_answer_whatever_came_between(client, chat):
    options = {"temperature": 1.5, "top_p": 0.9, "max_tokens": 20}
    first = client.ask(chat, seed=7, **options)
    client.ask(chat, "other", seed=1, **options)
    client.ask(chat, "other", **options)
    assert client.ask(chat, seed=7, **options)["text"] == first["text"]
    assert len({client.ask(chat, seed=seed, **options)["text"] for seed in (7, 8, -1, 2**63)}) > 2
    assert len({client.ask(chat, **options)["text"] for _ in range(4)}) > 1  # without one, none is repeated


def test_an_answer_ends_at_max_tokens_and_at_the_context_window(client, chat, models):
    done = client.ask(chat, max_tokens=5)
    assert (done["finish_reason"], done["completion_tokens"]) == ("length", 5)
    narrow = make_tiny_model(models / "narrow", max_position_embeddings=64)
    done = client.ask(narrow, max_tokens=1000)
    assert done["finish_reason"] == "length"
    assert done["prompt_tokens"] + done["completion_tokens"] == 64
    kind, message = client.refused(narrow, "word " * 100)
    assert kind == "context_length"
    assert "context window of 64" in message
    # Not tokenised to its end, which took the loop that decodes 2.7 s for 1 MB.
    kind, message = client.refused(narrow, "word " * 10_000)
    assert kind == "context_length"
    assert "more than" in message


@pytest.mark.parametrize(
    ("said", "config", "tokenizer"),
    [
        (2, {"eos_token_id": 2}, "<|im_end|>"),
        (0, {"eos_token_id": [0, 9]}, "<|im_end|>"),  # the config's, beside the tokenizer's
        (2, {"eos_token_id": 0}, "<|endoftext|>"),  # only the template closes a turn with it
    ],
)
def test_every_end_token_ends_the_answer(client, models, said, config, tokenizer):
    path = make_parrot(models / f"parrot-{said}-{config['eos_token_id']}", said)
    for name, changes in (("config.json", config), ("tokenizer_config.json", {"eos_token": tokenizer})):
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | changes))
    done = client.ask(path)
    assert (done["finish_reason"], done["text"], done["completion_tokens"]) == ("stop", "", 1)


def test_stop_sequences_end_the_answer_and_are_not_in_it(client, models):
    letter = make_letter(models / "letter", "ab")
    assert client.ask(letter, stop=["abab", "ba"])["text"] == "a"
    done = client.ask(letter, stop=["bab"], max_tokens=30)
    assert (done["text"], done["finish_reason"]) == ("a", "stop")
    done = client.ask(letter, stop=["abc", ""], max_tokens=3)
    assert (done["text"], done["finish_reason"]) == ("aba", "length")  # held back at first, then shown


# ---- prompts ----


def test_a_plain_prompt_is_continued_as_it_is(client, chat):
    done = client.ask(chat, None, prompt="The capital of")
    assert done["prompt_tokens"] == prompt_length(chat, "The capital of")
    assert client.refused(chat, None, prompt="") == ("invalid_parameters", "the prompt is empty")


def test_base_models_get_the_texts_that_training_uses(client, models):
    base = make_tiny_model(models / "base", chat_template=False)
    done = client.ask(base, "Say hi")
    assert done["prompt_tokens"] == prompt_length(base, alpaca_text("Say hi"))
    messages = [("system", "Be kind"), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")]
    asked = [{"role": role, "content": content} for role, content in messages]
    text = conversation_text([ChatMessage(**m) for m in asked], "<|endoftext|>", add_generation_prompt=True)
    assert client.ask(base, messages=asked)["prompt_tokens"] == prompt_length(base, text)
    system_first = [asked[0], asked[1]]
    text = alpaca_text("Hi", system="Be kind")
    assert client.ask(base, messages=system_first)["prompt_tokens"] == prompt_length(base, text)


def test_messages_that_a_template_refuses_are_folded_as_in_training_or_told(client, models):
    strict = make_tiny_model(models / "strict", chat_template=STRICT)
    asked = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    text = "<|bos|><|im_start|>user\nBe kind\n\nHi<|im_end|>\n<|im_start|>model\n"
    done = client.ask(strict, messages=asked)
    assert done["prompt_tokens"] == prompt_length(strict, text, add_special_tokens=False)
    kind, message = client.refused(strict, messages=[{"role": "assistant", "content": "I begin"}])
    assert kind == "invalid_parameters"
    assert "chat template refuses these messages: Conversation roles must alternate" in message
    assert client.refused(strict, messages=[]) == ("invalid_parameters", "messages is empty")


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
ASKED = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "18 °C", "tool_call_id": "call_1", "name": "weather"},
]


def test_tools_and_their_calls_go_through_the_template(client, models):
    hermes = (
        "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{{ '\n' }}{% endif %}"
        "{% for message in messages %}{{ message.role }}:{{ message.content }}"
        "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.name }} "
        "{{ call.function.arguments.city }}</tool_call>{% endfor %}"
        "{% if message.tool_call_id is defined %}({{ message.tool_call_id }}){% endif %}{{ '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    path = make_tiny_model(models / "hermes", chat_template=hermes)
    text = (
        '<tools>{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}</tools>\n'
        "user:Rain?\nassistant:<tool_call>weather Zürich</tool_call>\ntool:18 °C(call_1)\nassistant:"
    )
    done = client.ask(path, messages=ASKED, tools=[WEATHER])
    assert done["prompt_tokens"] == prompt_length(path, text, add_special_tokens=False)


@pytest.mark.parametrize("template", [True, False])
def test_where_a_model_has_no_place_for_tools_they_go_where_training_puts_them(client, models, template):
    path = make_tiny_model(models / f"toolless-{template}", chat_template=template)
    told = 'You can call these functions:\n{"type": "function", "function": {"name": "weather", '
    told += '"parameters": {"type": "object"}}}'
    call = '{"name":"weather","arguments":{"city":"Zürich"}}'
    messages = [("system", told), ("user", "Rain?"), ("assistant", call), ("tool", "18 °C")]
    if template:
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
        text += "<|im_start|>assistant\n"
    else:
        turns = [ChatMessage(role=role, content=content) for role, content in messages]
        text = conversation_text(turns, "<|endoftext|>", add_generation_prompt=True)
    done = client.ask(path, messages=ASKED, tools=[WEATHER])
    assert done["prompt_tokens"] == prompt_length(path, text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "took longer than 2 s"),
        ("{{ 7 ** (7 ** 12) }}", "took longer than 2 s"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
    ids=["loops", "power", "escape", "mutation", "recursion", "arithmetic"],
)
def test_templates_are_kept_in_their_sandbox_and_their_time(client, chat, models, template, reason):
    path = make_tiny_model(models / f"evil-{abs(hash(template))}", chat_template=template)
    kind, message = client.refused(path)
    assert kind == "invalid_parameters"
    assert reason in message
    assert client.ask(chat)["type"] == "done"


# ---- requests beside each other ----


@pytest.fixture(scope="module")
def endless(models) -> Path:
    return make_letter(models / "endless", "ab")


def test_a_running_request_is_cancelled_and_the_next_one_is_served(client, chat, endless):
    running = client.send(endless, max_tokens=4000)
    tokens = []
    for frame in client.process.frames():
        if frame["type"] == "token":
            tokens.append(frame["text"])
            if len(tokens) == 3:
                client.process.send("cancel", id=running)
        elif frame["type"] == "done":
            break
    assert (frame["id"], frame["finish_reason"]) == (running, "cancelled")
    assert frame["text"] == "".join(tokens)
    assert 3 <= frame["completion_tokens"] < 4000
    assert client.ask(chat)["type"] == "done"


def test_a_cancel_is_seen_within_a_long_prompt(client, models):
    path = make_tiny_model(models / "long", max_position_embeddings=200_000)
    running = client.send(path, "word " * 30_000)
    client.process.until("loaded")
    client.process.send("cancel", id=running)
    done = client.answer(running)
    assert (done["finish_reason"], done["completion_tokens"]) == ("cancelled", 0)


def test_requests_wait_their_turn_and_can_be_cancelled_there(client, endless):
    first = client.send(endless, max_tokens=4000)
    second, third = client.send(endless), client.send(endless, max_tokens=3)
    client.process.send("cancel", id=second)
    client.process.send("cancel", id="nobody")
    client.process.send("cancel", id=first)
    ends = [client.process.until("done")[-1] for _ in range(3)]
    assert {end["id"]: end["finish_reason"] for end in ends} == {
        first: "cancelled",
        second: "cancelled",
        third: "length",
    }
    assert ends[-1]["id"] == third


def test_a_failing_request_harms_nobody(client, chat, models):
    before = client.ask(chat)["text"]
    bad, good = client.send(models / "nowhere"), client.send(chat)
    assert client.answer(bad)["message"] == f"{models / 'nowhere'}: no such folder"
    assert client.answer(good)["text"] == before
    client.process.send("stop")
    error = client.process.frame()
    assert (error["kind"], error["id"]) == ("protocol", None)


def test_a_model_that_was_written_anew_is_loaded_anew(client, models):
    path = make_tiny_model(models / "rewritten", seed=1)
    first = client.ask(path)["text"]
    make_tiny_model(path, seed=2)
    second = client.ask(path)["text"]
    assert second == expected(path, "Hi", 12)[0] != first


def test_bases_stay_while_memory_has_room_and_go_when_idle(tmp_path):
    paths = [str(make_tiny_model(tmp_path / name)) for name in "abc"]
    loads = []
    bases = Bases(platform.setup(), lambda path, seconds: loads.append(path))
    a, b, c = paths
    size = bases.get(a).nbytes
    bases = Bases(platform.setup(), lambda path, seconds: loads.append(path), budget=2 * size)
    loads.clear()
    for path in (a, b, a, b, c, b, a):
        assert bases.get(path).loaded.path == Path(path)
    assert loads == [a, b, c, a]
    with pytest.raises(NoRoomYet):
        bases.get(c, in_use=[bases.get(a), bases.get(b)])
    bases.get(c, in_use=[bases.get(b)])
    assert loads == [a, b, c, a, c]
    bases.unload(3600, [])
    assert len(bases.loaded) == 2
    bases.unload(0, [bases.get(b)])
    assert [base.loaded.path for base in bases.loaded] == [Path(b)]
    small = Bases(platform.setup(), lambda path, seconds: loads.append(path), budget=0)
    loads.clear()
    for path in (c, b, b):
        small.get(path)
    assert loads == [c, b]
    with pytest.raises(EngineError, match="no such folder"):
        bases.get(str(tmp_path / "none"))


# ---- the real model ----


def test_the_real_model_answers_and_ends(client, smollm2, tmp_path):
    question = "What is the capital of France?"
    done = client.ask(smollm2, question, max_tokens=40)
    assert (done["text"], done["finish_reason"]) == ("The capital of France is Paris.", "stop")
    assert done["prompt_tokens"] == 37
    adapter = make_adapter(tmp_path / "adapter", smollm2, rank=2, keys=["self_attn.q_proj"])
    assert client.ask(smollm2, question, adapter_path=str(adapter), max_tokens=8)["text"] != done["text"]
    assert client.ask(smollm2, question, max_tokens=40)["text"] == done["text"]
    continued = client.ask(smollm2, None, prompt="The capital of France is", max_tokens=1)
    assert continued["text"] == " Paris"
