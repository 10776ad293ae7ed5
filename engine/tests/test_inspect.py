"""The supervision report and the mask preview, held against the examples that training would see."""

from __future__ import annotations

import datetime
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine_process import EngineProcess
from harness import Frames, questions, row, train, train_command
from mlx_engine import platform
from mlx_engine.data.load import tokenized
from mlx_engine.inspection.inspector import Inspector
from mlx_engine.models.text import read_text
from mlx_engine.process import Engine
from mlx_engine.protocol import Cancel, DatasetSpec, Inspect, Preview
from tiny import STRICT, THINKING, make_tiny_model, make_tokenizer

Values = dict[str, Any]

_STATES = ("trained", "masked", "cut", "unused")


def spec_of(folder: Path, rows: list[Values], **changes: Any) -> DatasetSpec:
    changes = {f"dataset__{name}": value for name, value in changes.items()}
    return train_command(folder, folder, rows, **changes).dataset


class Asked:
    """An inspector of this process, and what it answers."""

    def __init__(self, model: Path) -> None:
        self.model = str(model)
        self.channel = Frames(lambda frame: None)
        self.engine = Engine(self.channel, platform.setup())
        self.inspector = Inspector(self.engine)

    def report(self, dataset: DatasetSpec) -> Values:
        return self._last(Inspect(id="i", model_path=self.model, dataset=dataset, seed=1))["report"]

    def rows(self, dataset: DatasetSpec, *samples: int) -> list[Values]:
        self.channel.frames.clear()
        self._last(Preview(id="p", model_path=self.model, dataset=dataset, samples=list(samples)))
        return json.loads("".join(f["json"] for f in self.channel.frames if f["type"] == "previewed"))

    def _last(self, command: Inspect | Preview) -> Values:
        self.inspector.answer(command)
        frame = self.channel.frames[-1]
        assert frame["type"] in ("inspected", "previewed"), frame
        return frame


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    templates = {"chat": True, "strict": STRICT, "thinking": THINKING, "base": False}
    return {name: make_tiny_model(folder / name, chat_template=template) for name, template in templates.items()}


@pytest.fixture(scope="module")
def asked(folders: dict[str, Path]) -> dict[str, Asked]:
    return {name: Asked(folder) for name, folder in folders.items()}


def codes(report: Values) -> dict[str, list[int]]:
    return {finding["code"]: finding["samples"] for finding in report["findings"]}


def shown(row: Values) -> list[str]:
    """Each text with its tokens' states: {trained}, cut off by «», unused in parentheses."""
    brackets = {"trained": "{}", "masked": "", "cut": "«»", "unused": "()"}
    texts = []
    for text in row["texts"]:
        found, last = "", "masked"
        for piece in [*text["pieces"], {"text": "", "state": "masked"}]:
            if piece["state"] != last:
                found += brackets[last][1:] + brackets[piece["state"]][:1]
                last = piece["state"]
            found += piece["text"]
        texts.append(found)
    return texts


# ---- the same as training ----

words = st.text(alphabet="ab \n\tü日🎉.<", max_size=30)
turns = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "assistant", "tool"]), words), min_size=1, max_size=5
).map(lambda turns: [("user", "Hi"), *turns])
rows_of = st.lists(
    st.one_of(
        st.tuples(st.booleans(), turns).map(lambda t: {"turns": [("system", "Be brief.")] * t[0] + t[1]}),
        st.tuples(words, words).map(lambda t: {"raw": {"prompt": t[0], "completion": t[1]}}),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=rows_of,
    limit=st.integers(8, 120),
    loss_on=st.sampled_from(["completions", "last_completion", "all"]),
    truncation=st.sampled_from(["truncate", "drop", "error"]),
    model=st.sampled_from(["chat", "strict", "thinking", "base"]),
)
def test_every_token_is_told_as_training_has_it(
    drawn: list[Values],
    limit: int,
    loss_on: str,
    truncation: str,
    model: str,
    asked: dict[str, Asked],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [
        row(3 * i, *each["turns"]) if "turns" in each else {"sample": 3 * i, "messages": [], **each}
        for i, each in enumerate(drawn)
    ]
    spec = spec_of(tmp_path_factory.mktemp("rows"), rows, max_seq_length=limit, loss_on=loss_on, truncation=truncation)
    text = read_text(Path(asked[model].model))
    data, _ = tokenized(spec, text, datetime.date.today())
    preview = asked[model].rows(spec, *[each["sample"] for each in rows])
    states: Counter[str] = Counter()
    used = []
    for each, given_row in zip(preview, rows, strict=True):
        assert each["sample"] == given_row["sample"]
        for shown_text in each["texts"]:
            pieces = shown_text["pieces"]
            whole = "".join(piece["text"] for piece in pieces)
            assert whole == "".join(part["text"] for part in shown_text["parts"])
            kept = [(id, p) for p in pieces for id in p["ids"] if p["state"] in ("trained", "masked")]
            if kept:
                used.append((each["sample"], kept))
            assert text.tokenizer.decode([id for piece in pieces for id in piece["ids"]]) == whole
            states.update({name: shown_text["tokens"][name] for name in _STATES})
            assert sum(len(p["ids"]) for p in pieces) == shown_text["tokens"]["total"]
        assert (each["problem"] is None) == any(e.sample == each["sample"] for e in data.examples)
    # A character's tokens are shown as one piece: as masked when its first token is, and as cut when its last one is.
    for (sample, kept), example in zip(used, data.examples, strict=True):
        assert sample == example.sample
        assert len(example.tokens) - 3 <= len(kept) <= len(example.tokens)
        if len(kept) == len(example.tokens):
            for (id, piece), token, learned in zip(kept, example.tokens, example.supervised, strict=True):
                assert id == token
                assert len(piece["ids"]) > 1 or (piece["state"] == "trained") == learned
    report = asked[model].report(spec)
    assert report["tokens"] == {name: states[name] for name in _STATES} | {"total": sum(states.values())}
    assert report["tokens"]["trained"] == sum(e.trained for e in data.examples) == data.trained_tokens
    assert report["tokens"]["masked"] == data.tokens - data.trained_tokens
    assert (report["rows"], report["used_rows"]) == (len(rows), len({e.sample for e in data.examples}))
    assert report["examples"] == len(data.examples)
    too_long = [finding["rows"] for finding in report["findings"] if finding["code"] == "too_long"]
    assert report["rows"] == report["used_rows"] + report["rows_without_supervision"] + sum(too_long)
    assert (report["refusal"] is None) == (bool(data.examples) and not (truncation == "error" and too_long))


def test_counts_are_those_of_a_run(tmp_path: Path, chat: Path, asked: dict[str, Asked]) -> None:
    command = train_command(tmp_path, chat, questions(23), epochs=1, dataset__batch_size=4)
    prepared = next(frame for frame in train(command) if frame["type"] == "prepared")
    report = Asked(chat).report(command.dataset)
    assert report["steps_per_epoch"] == prepared["steps_per_epoch"] == 6
    assert report["tokens"]["trained"] == prepared["trained_tokens"]
    assert report["tokens"]["trained"] + report["tokens"]["masked"] == prepared["tokens"]
    assert report["packing"] == prepared["packing"]


# ---- the report ----


def test_findings_name_their_rows(tmp_path: Path, asked: dict[str, Asked]) -> None:
    rows = [
        row(0, ("user", "Hi"), ("assistant", "Hello")),
        row(1, ("user", "Hi")),
        row(2, ("user", "q" * 90), ("assistant", "Hello")),
        row(3, ("user", "Hi"), ("assistant", "z" * 90)),
        row(4, ("user", "Hi"), ("assistant", "one"), ("user", "q" * 40), ("assistant", "two")),
        row(5, ("user", "Hi"), ("assistant", "never learned")),
        {"sample": 6, "messages": [], "raw": {"prompt": "", "completion": ""}},
        {"sample": 7, "messages": [], "raw": {"prompt": "Say ", "completion": "the"}},
    ]
    rows[5]["messages"][1]["train"] = False
    report = asked["chat"].report(spec_of(tmp_path, rows, max_seq_length=40))
    assert codes(report) == {
        "no_assistant_turn": [1],
        "no_room_for_answer": [2],
        "not_learned": [5],
        "empty_answer": [6],
        "cut_answers": [3],
        "cut_turns": [4],
        "straddling_token": [7],
    }
    assert (report["cut_rows"], report["rows_without_supervision"], report["used_rows"]) == (2, 4, 4)
    messages = {finding["code"]: finding["message"] for finding in report["findings"]}
    assert messages["no_assistant_turn"] == "1 row (sample 1) left out: it has no assistant turn"
    assert messages["cut_answers"].startswith("1 row (sample 3): the answer goes on beyond max_seq_length 40:")


@pytest.mark.parametrize(
    ("turns", "code"),
    [
        ([("system", "Be brief."), ("user", "Hi"), ("assistant", "A")], "system_in_user_turn"),
        ([("user", "Hi"), ("assistant", "A"), ("tool", "T"), ("assistant", "B")], "tool_results_in_user_turns"),
        ([("user", "Hi"), ("user", "Ho"), ("assistant", "A")], "turns_joined"),
        ([("assistant", "A"), ("user", "Hi")], "template_refuses"),
    ],
)
def test_what_a_strict_template_makes_of_roles(
    turns: list[tuple[str, str]], code: str, tmp_path: Path, asked: dict[str, Asked]
) -> None:
    report = asked["strict"].report(spec_of(tmp_path, [row(4, *turns)]))
    assert codes(report) == {code: [4]}


def test_a_template_without_end_tokens_and_a_doubled_bos(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    model = make_tiny_model(tmp_path / "model", chat_template=template)
    rows = [
        row(0, ("user", "<|bos|>Hi"), ("assistant", "A")),
        row(1, ("user", "Hi"), ("assistant", "A"), ("user", "Ho"), ("assistant", "B")),
    ]
    report = Asked(model).report(spec_of(tmp_path, rows))
    found = codes(report)
    assert (found["doubled_bos"], found["missing_end_token"]) == ([0], [1])
    assert (report["rows_doubled_bos"], report["rows_missing_end"]) == (1, 1)


def test_a_template_that_brings_a_system_turn_of_its_own_is_shown(tmp_path: Path, folders: dict[str, Path]) -> None:
    template = (
        "<|im_start|>system\nI am Tiny.<|im_end|>\n{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    model = make_tiny_model(tmp_path / "model", chat_template=template)
    report = Asked(model).report(spec_of(tmp_path, questions(2)))
    assert report["opening"] == "<|im_start|>system\nI am Tiny.<|im_end|>\n"
    base = Asked(folders["base"]).report(spec_of(tmp_path, questions(2)))
    assert (base["chat_template"], base["opening"]) == (False, None)


def test_lengths_and_what_is_suggested(tmp_path: Path, asked: dict[str, Asked]) -> None:
    def answers(*characters: int) -> list[Values]:
        return [row(i, ("user", ""), ("assistant", "z" * count)) for i, count in enumerate(characters)]

    spec = spec_of(tmp_path / "even", answers(*range(1, 101)), max_seq_length=60)
    report = asked["chat"].report(spec)
    least = report["lengths"]["min"]
    assert report["lengths"] == {
        "min": least,
        "mean": least + 49.5,
        **{f"p{p}": least + p - 1 for p in (50, 90, 95, 99)},
        "max": least + 99,
    }
    assert report["longest"][:2] == [{"sample": 99, "tokens": least + 99}, {"sample": 98, "tokens": least + 98}]
    assert report["suggested_max_seq_length"] == 128
    assert "holds every row" in report["suggestion"]
    outlier = asked["chat"].report(spec_of(tmp_path / "outlier", answers(*[5] * 200, 2000)))
    assert outlier["suggested_max_seq_length"] == 64
    assert outlier["suggestion"].startswith("max_seq_length 64 holds all but 1 row: 99 % of them")
    context = asked["chat"].report(spec_of(tmp_path / "context", answers(*[3000] * 50, 5000)))
    assert context["suggested_max_seq_length"] == 4096
    assert "the model's context" in context["suggestion"]


def test_padding_is_that_of_the_batches(tmp_path: Path, asked: dict[str, Asked]) -> None:
    rows = [row(i, ("user", "Hi"), ("assistant", "z" * (1 + 40 * (i % 2)))) for i in range(8)]
    spec = spec_of(tmp_path, rows, batch_size=8, packing=False)
    report = asked["chat"].report(spec)
    assert not report["packing"]
    assert report["padding_share"] == report["padding_share_unpacked"]
    packed = asked["chat"].report(spec_of(tmp_path, rows, batch_size=8, packing=True))
    assert (packed["packing"], packed["padding_share"]) == (True, 0.0)
    assert packed["padding_share_unpacked"] == report["padding_share"]


# ---- the mask ----


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n{Héllo 🎉<|im_end|>}(\n)"),
        ({"loss_on": "all"}, "<|im_start|>{user\nHi<|im_end|>\n<|im_start|>assistant\nHéllo 🎉<|im_end|>\n}"),
        (
            {"max_seq_length": 32},
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n{Héllo }«🎉»{<|im_end|>}(\n)",
        ),
        (
            {"max_seq_length": 32, "truncation": "drop"},
            "«<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHéllo 🎉<|im_end|>»(\n)",
        ),
    ],
)
def test_the_mask_of_a_row(options: Values, expected: str, tmp_path: Path, asked: dict[str, Asked]) -> None:
    rows = [row(7, ("user", "Hi"), ("assistant", "Héllo 🎉"))]
    spec = spec_of(tmp_path, rows, **options)
    tokens = asked["chat"].report(spec_of(tmp_path / "whole", rows))["longest"][0]["tokens"]
    if "max_seq_length" in options:  # without the character's last byte
        spec = spec_of(tmp_path, rows, **options | {"max_seq_length": tokens - 1})
    [found] = asked["chat"].rows(spec, 7)
    assert shown(found) == [expected]
    [emoji] = [piece for piece in found["texts"][0]["pieces"] if piece["text"] == "🎉"]
    assert len(emoji["ids"]) == 4
    assert [(part["role"], part["text"]) for part in found["texts"][0]["parts"] if part["role"]] == [
        ("user", "Hi"),
        ("assistant", "Héllo 🎉"),
    ]


def test_rows_that_are_not_there_left_out_or_split(tmp_path: Path, asked: dict[str, Asked]) -> None:
    talk = [("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "d")]
    rows = [row(2, *talk), row(5, ("user", "Hi"))]
    missing, silent, split = asked["thinking"].rows(spec_of(tmp_path, rows), 3, 5, 2)
    assert missing["problem"] == "there is no valid row of this number"
    assert silent["problem"] == "it has no assistant turn"
    assert len(split["texts"]) == 2
    assert [note["code"] for note in split["notes"]] == ["turns_split"]


def test_a_bos_that_the_tokenizer_adds_is_shown(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", chat_template=False)
    make_tokenizer(model, chat_template=False, bos=True)
    rows = [{"sample": 0, "messages": [], "raw": {"prompt": "", "completion": "zq"}}]
    [found] = Asked(model).rows(spec_of(tmp_path, rows), 0)
    assert shown(found) == ["<|bos|>{zq<|endoftext|>}"]


def test_long_rows_are_shown_up_to_a_limit(
    tmp_path: Path, asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_engine.inspection.preview._SHOWN_TOKENS", 50)
    monkeypatch.setattr("mlx_engine.inspection.inspector._SLICE", 70)
    rows = [row(i, ("user", "Hi"), ("assistant", "z" * 30)) for i in range(2)]
    first, second = asked["chat"].rows(spec_of(tmp_path, rows), 0, 1)
    listed = [sum(len(p["ids"]) for p in each["texts"][0]["pieces"]) for each in (first, second)]
    assert listed[0] == first["texts"][0]["tokens"]["total"] - first["texts"][0]["omitted"]
    assert sum(listed) <= 50
    assert second["texts"][0]["omitted"] > 0


# ---- the process ----


def test_a_process_answers_one_after_the_other(tmp_path: Path, chat: Path) -> None:
    values = msgspec.to_builtins(spec_of(tmp_path / "rows", questions(300), cache_path=str(tmp_path / "cache")))
    weightless = tmp_path / "model"
    shutil.copytree(chat, weightless, ignore=shutil.ignore_patterns("*.safetensors"))
    with EngineProcess("-m", "mlx_engine.inspect") as process:
        process.until("hello")
        for id in ("a", "b"):
            process.send("inspect", id=id, model_path=str(weightless), dataset=values, seed=1)
        first = process.until("inspected")[-1]
        second = process.until("inspected")[-1]
        assert (first["id"], first["report"]["cached"]) == ("a", False)
        assert (second["id"], second["report"]["cached"]) == ("b", True)
        process.send("inspect", id="c", model_path=str(tmp_path), dataset=values, seed=1)
        error = process.until("error")[-1]
        assert (error["id"], error["kind"]) == ("c", "invalid_model")
        process.send("preview", id="d", model_path=str(weightless), dataset=values, samples=[299])
        assert json.loads(process.until("previewed", more=False)[-1]["json"])[0]["sample"] == 299
        process.send("inspect", id="e", model_path=str(weightless), dataset=values | {"path": "/nowhere"}, seed=1)
        assert process.until("error")[-1]["kind"] == "invalid_dataset"
        process.send("stop")
        assert process.until("error")[-1]["kind"] == "protocol"
        process.close_stdin()
        assert process.wait() == 0


def test_a_cancel_ends_the_work_and_keeps_what_came_meanwhile(
    tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(chat)
    spec = spec_of(tmp_path, questions(300))
    later = Preview(id="later", model_path=str(chat), dataset=spec, samples=[0])
    asked.engine.commands.put(Cancel(id="another"))
    asked.engine.commands.put(later)
    asked.engine.commands.put(Cancel(id="i"))
    asked.inspector.answer(Inspect(id="i", model_path=str(chat), dataset=spec, seed=1))
    assert asked.channel.frames[-1] == {"type": "inspected", "id": "i", "report": None}
    assert asked.engine.poll() == Cancel(id="another")
    assert asked.engine.poll() == later
    assert asked.engine.poll() is None
