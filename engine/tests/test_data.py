"""What carries loss, what is cut, what is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import load_tokenizer
from transformers import ByT5Tokenizer

from harness import row, write_snapshot
from mlx_engine.data.cut import cut
from mlx_engine.data.encode import Span
from mlx_engine.data.rows import Snapshot
from mlx_engine.data.tokenize import Dataset, Example
from mlx_engine.protocol import EngineError
from tiny import STRICT, THINKING, make_tiny_model, make_tokenizer
from tokenized import tokenized


@pytest.fixture
def tokens_of(tmp_path: Path) -> Any:
    """tokens_of(rows, template=…, limit=…, loss_on=…) → Dataset and the tokenizer."""

    def run(
        rows: list[dict], template: str | bool = True, limit: int = 512, bos: bool = False, **options: Any
    ) -> tuple[Dataset, TokenizerWrapper]:
        make_tiny_model(tmp_path / "m", chat_template=template)
        make_tokenizer(tmp_path / "m", chat_template=template, bos=bos)
        write_snapshot(tmp_path / "rows.jsonl", rows)
        tokenizer = load_tokenizer(tmp_path / "m")
        return tokenized(tmp_path / "rows.jsonl", tokenizer, max_seq_length=limit, **options), tokenizer

    return run


def supervised(example: Example, tokenizer: TokenizerWrapper) -> list[str]:
    """The texts of the runs of supervised tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.supervised.astype(int), [0]])))
    return [tokenizer.decode(example.tokens[a:b].tolist()) for a, b in edges.reshape(-1, 2)]


def text(example: Example, tokenizer: TokenizerWrapper) -> str:
    return tokenizer.decode(example.tokens.tolist())


def codes(data: Dataset) -> list[str]:
    return [code for code, _ in data.warnings]


# ---- masks ----


def test_every_assistant_turn_and_its_end_token_carry_loss(tokens_of: Any) -> None:
    data, tokenizer = tokens_of(
        [
            row(
                0,
                ("system", "Be brief."),
                ("user", "Hi"),
                ("assistant", "Hello."),
                ("user", "Ça va ? 日本"),
                ("assistant", "Très bien 🎉!\n"),
                ("user", "Bye"),
            )
        ]
    )
    (example,) = data.examples
    assert supervised(example, tokenizer) == ["Hello.<|im_end|>", "Très bien 🎉!\n<|im_end|>"]
    assert text(example, tokenizer) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nÇa va ? 日本<|im_end|>\n<|im_start|>assistant\nTrès bien 🎉!\n<|im_end|>"
    )
    assert data.warnings == []


words = st.text(alphabet="ab \néü日🎉.", min_size=1, max_size=12)


@given(turns=st.lists(st.tuples(words, words), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_masks_of_any_conversation(turns: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("t")
    make_tiny_model(folder)
    write_snapshot(folder / "r", [row(0, *[t for u, a in turns for t in (("user", u), ("assistant", a))])])
    tokenizer = load_tokenizer(folder)
    data = tokenized(folder / "r", tokenizer, max_seq_length=4096)
    assert supervised(data.examples[0], tokenizer) == [answer + "<|im_end|>" for _, answer in turns]


def test_thinking_that_a_template_hides_later_makes_each_turn_a_sample(tokens_of: Any) -> None:
    turns = [
        ("user", "One?"),
        ("assistant", "<think>a</think>1"),
        ("user", "Two?"),
        ("assistant", "<think>b</think>2"),
    ]
    data, tokenizer = tokens_of([row(5, *turns)], template=THINKING)
    assert [supervised(e, tokenizer) for e in data.examples] == [
        ["<think>a</think>1<|im_end|>"],
        ["<think>b</think>2<|im_end|>"],
    ]
    assert "<think>a" not in text(data.examples[1], tokenizer)
    assert codes(data) == ["turns_split"]
    assert "sample 5" in data.warnings[0][1]


def test_a_generation_prompt_that_the_turns_do_not_begin_with(tokens_of: Any) -> None:
    template = THINKING.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    data, tokenizer = tokens_of([row(0, ("user", "Hi"), ("assistant", "Hello"))], template=template)
    assert supervised(data.examples[0], tokenizer) == ["Hello<|im_end|>"]
    assert codes(data) == ["generation_prompt_differs"]


def test_a_template_without_end_token_gets_eos(tokens_of: Any) -> None:
    template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    data, tokenizer = tokens_of([row(0, ("user", "Hi"), ("assistant", "Hello"))], template=template)
    assert supervised(data.examples[0], tokenizer) == ["Hello<|im_end|>"]
    assert codes(data) == ["no_end_token"]


def test_a_strict_template_gets_the_roles_it_takes(tokens_of: Any) -> None:
    turns = [
        ("system", "Be brief."),
        ("user", "Weather?"),
        ("assistant", '{"name": "weather"}'),
        ("tool", "Rain"),
        ("user", "And now?"),
        ("assistant", "It rains."),
    ]
    data, tokenizer = tokens_of([row(0, *turns)], template=STRICT)
    (example,) = data.examples
    assert supervised(example, tokenizer) == ['{"name": "weather"}<|im_end|>', "It rains.<|im_end|>"]
    assert text(example, tokenizer) == (
        "<|bos|><|im_start|>user\nBe brief.\n\nWeather?<|im_end|>\n"
        '<|im_start|>model\n{"name": "weather"}<|im_end|>\n'
        "<|im_start|>user\nRain\n\nAnd now?<|im_end|>\n<|im_start|>model\nIt rains.<|im_end|>"
    )
    assert codes(data) == ["system_in_user_turn", "tool_results_in_user_turns", "turns_joined"]


def test_a_row_that_no_form_of_suits_the_template_is_dropped(tokens_of: Any) -> None:
    good = row(0, ("user", "Hi"), ("assistant", "Hello"))
    data, _ = tokens_of([good, row(1, ("assistant", "Hello"), ("user", "Hi"))], template=STRICT)
    assert data.dropped.samples == [1]
    assert data.warnings == [
        (
            "rows_dropped",
            "1 row (sample 1) dropped: the chat template does not accept it: "
            "Conversation roles must alternate user/assistant",
        )
    ]


def test_a_template_that_takes_too_long_ends_the_run(tokens_of: Any) -> None:
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(EngineError, match="chat template cannot be used: the template took longer than 2 s"):
        tokens_of([row(0, ("user", "Hi"), ("assistant", "Hello"))], template=loops)


def test_tools_that_the_template_ignores_go_into_the_system_message(tokens_of: Any) -> None:
    turns = [("user", "Weather?"), ("assistant", "{}"), ("tool", "Rain"), ("assistant", "It rains.")]
    data, tokenizer = tokens_of([row(0, *turns, tools=[{"name": "weather"}])])
    assert text(data.examples[0], tokenizer).startswith(
        '<|im_start|>system\nYou can call these functions:\n{"name": "weather"}<|im_end|>\n<|im_start|>user\n'
    )
    assert supervised(data.examples[0], tokenizer) == ["{}<|im_end|>", "It rains.<|im_end|>"]
    assert codes(data) == ["tools_in_system_message"]


def test_tools_that_the_template_shows_stay_its_own(tokens_of: Any) -> None:
    template = "{% if tools %}<|im_start|>system\nTools: {{ tools[0].name }}<|im_end|>\n{% endif %}" + THINKING
    data, tokenizer = tokens_of(
        [row(0, ("user", "Hi"), ("assistant", "Hello"), tools=[{"name": "weather"}])], template=template
    )
    assert text(data.examples[0], tokenizer).startswith("<|im_start|>system\nTools: weather<|im_end|>")
    assert data.warnings == []


def test_templates_see_the_date_of_the_run(tokens_of: Any) -> None:
    template = "{{ strftime_now('%d %b %Y') }}\n" + THINKING
    data, tokenizer = tokens_of([row(0, ("user", "Hi"), ("assistant", "Hello"))], template=template)
    assert text(data.examples[0], tokenizer).startswith("02 Jan 2026\n")


# ---- base models ----


def test_base_models_get_the_stanford_text(tokens_of: Any) -> None:
    rows = [
        row(0, ("user", "Add\n\n1, 2"), ("assistant", "3"), alpaca={"instruction": "Add", "input": "1, 2"}),
        row(1, ("user", "Hi"), ("assistant", "Hello"), alpaca={"instruction": "Hi", "input": ""}),
    ]
    data, tokenizer = tokens_of(rows, template=False, bos=True)
    first, second = data.examples
    assert text(first, tokenizer) == (
        "<|bos|>Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd\n\n### Input:\n1, 2\n\n### Response:\n3<|endoftext|>"
    )
    assert text(second, tokenizer) == (
        "<|bos|>Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nHi\n\n### Response:\nHello<|endoftext|>"
    )
    assert supervised(first, tokenizer) == ["3<|endoftext|>"]
    assert first.tokens[0] == tokenizer.bos_token_id
    assert first.tokens[1] != tokenizer.bos_token_id


def test_base_models_get_conversations_as_text(tokens_of: Any) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao")]
    data, tokenizer = tokens_of([row(0, *turns)], template=False)
    (example,) = data.examples
    assert text(example, tokenizer) == (
        "Be brief.\n\nUSER: Hi\nASSISTANT: Hello<|endoftext|>\nUSER: Bye\nASSISTANT: Ciao<|endoftext|>"
    )
    assert supervised(example, tokenizer) == [" Hello<|endoftext|>", " Ciao<|endoftext|>"]


def test_a_template_that_shows_bos_gets_no_second_one(tokens_of: Any) -> None:
    data, tokenizer = tokens_of([row(0, ("user", "Hi"), ("assistant", "Hello"))], template=STRICT, bos=True)
    assert data.examples[0].tokens.tolist().count(tokenizer.bos_token_id) == 1


def test_tokenizers_without_offsets(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", [row(0, ("user", "Hi"), ("assistant", "Hé"), ("user", "x"), ("assistant", "y"))])
    tokenizer = TokenizerWrapper(ByT5Tokenizer())
    data = tokenized(tmp_path / "r", tokenizer)
    (example,) = data.examples
    assert supervised(example, tokenizer) == [" Hé</s>", " y</s>"]
    assert text(example, tokenizer) == "USER: Hi\nASSISTANT: Hé</s>\nUSER: x\nASSISTANT: y</s>"


# ---- cutting ----


def test_whole_answers_stay_and_later_turns_go(tokens_of: Any) -> None:
    turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "More"), ("assistant", "word " * 60)]
    data, tokenizer = tokens_of([row(3, *turns)], limit=64)
    assert supervised(data.examples[0], tokenizer) == ["Hello.<|im_end|>"]
    assert text(data.examples[0], tokenizer).endswith("Hello.<|im_end|>")
    assert data.truncated.samples == [3]
    assert codes(data) == ["rows_truncated"]
    assert "sample 3) cut to max_seq_length 64" in data.warnings[0][1]


def test_an_answer_that_is_cut_keeps_its_end_token(tokens_of: Any) -> None:
    data, tokenizer = tokens_of([row(0, ("user", "Hi"), ("assistant", "word " * 60))], limit=48)
    (example,) = data.examples
    assert len(example.tokens) == 48
    (answer,) = supervised(example, tokenizer)
    assert answer.startswith("word word")
    assert answer.endswith("<|im_end|>")


def test_a_prompt_that_fills_the_row_drops_it(tokens_of: Any) -> None:
    rows = [row(0, ("user", "word " * 60), ("assistant", "Hello")), row(1, ("user", "Hi"), ("assistant", "Hello"))]
    data, _ = tokens_of(rows, limit=48)
    assert data.dropped.samples == [0]
    assert [e.sample for e in data.examples] == [1]
    assert data.warnings[0][1] == (
        "1 row (sample 0) dropped: its prompt leaves no room for the answer within max_seq_length 48"
    )


@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5),
    limit=st.integers(8, 100),
    closed=st.booleans(),
)
def test_truncation_never_goes_over_and_never_leaves_a_row_without_loss(
    sizes: list[tuple[int, int]], limit: int, closed: bool
) -> None:
    answers, at = [], 0
    for prompt, answer in sizes:
        answers.append(Span(at + prompt, at + prompt + answer, closed))
        at += prompt + answer
    found = cut(np.arange(at, dtype=np.int32), answers, limit, everything=False)
    if found is None:
        assert answers[0].end > limit
        return
    tokens, mask = found
    assert len(tokens) == len(mask) <= limit
    assert mask.any()
    assert mask[-1]
    assert not mask[0]
    if closed:
        assert tokens[-1] in {answer.end - 1 for answer in answers}


def test_when_nothing_is_left_the_reasons_are_told(tokens_of: Any) -> None:
    with pytest.raises(EngineError, match=r"no row can be trained on.*sample 0.*no assistant turn") as error:
        tokens_of([row(0, ("user", "Hi"))])
    assert error.value.kind == "invalid_dataset"


# ---- snapshots ----


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    sha256 = write_snapshot(tmp_path / "r", [row(0, ("user", "Hi"), ("assistant", "Hello"))])
    assert len(Snapshot(str(tmp_path / "r"), sha256)) == 1
    (tmp_path / "r").write_text("{}\n")
    with pytest.raises(EngineError, match="has changed") as error:
        Snapshot(str(tmp_path / "r"), sha256)
    assert error.value.kind == "invalid_dataset"


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "r").write_text('{"sample": 0, "messages": []}\n{"sample": 1}\n')
    with pytest.raises(EngineError, match="line 2"):
        list(Snapshot(str(tmp_path / "r")))
    with pytest.raises(EngineError, match="cannot read"):
        Snapshot(str(tmp_path / "none"))


def test_rows_are_counted_with_and_without_a_last_newline(tmp_path: Path) -> None:
    for text, rows in (("", 0), ("{}", 1), ("{}\n", 1), ("{}\n{}", 2)):
        (tmp_path / "r").write_text(text)
        assert len(Snapshot(str(tmp_path / "r"))) == rows
