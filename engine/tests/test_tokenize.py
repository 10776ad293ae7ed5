"""Streaming, chunks and threads change no token: the same as the straightforward way, one row after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.utils import load_tokenizer

from harness import questions, row, write_snapshot
from mlx_engine.data import tokenize as tokenize_module
from mlx_engine.data.examples import Example
from mlx_engine.protocol import EngineError
from tiny import STRICT, THINKING, make_tokenizer
from tokenized import tokenized

END = "<|im_end|>"


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder)
    return load_tokenizer(folder)


def straightforward(rows: list[dict], tokenizer: Any, limit: int) -> list[tuple[int, list[int], list[bool]]]:
    """ChatML, loss on all answers: sample, tokens and mask of each row that is not dropped."""

    def render(messages: list[dict], prompt: bool = False) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)

    found = []
    for one in rows:
        messages = one["messages"]
        text = render(messages)
        encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        answers = []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                start = len(render(messages[:i], prompt=True))
                end = len(render(messages[: i + 1]).rstrip())
                inside = [k for k, (a, b) in enumerate(encoding.offsets) if max(b, a + 1) > start and a < end]
                answers.append((inside[0], inside[-1] + 1))
        tokens, learned = encoding.ids, [(a, b) for a, b in answers if b <= limit]
        if not learned:
            start, end = answers[0]
            room = limit - start - 1
            if room < max(1, min(16, limit // 4)):
                continue
            tokens = [*tokens[: start + room], tokens[end - 1]]
            learned = [(start, len(tokens))]
        length = learned[-1][1]
        mask = [any(a <= k < b for a, b in learned) for k in range(length)]
        found.append((one["sample"], tokens[:length], mask))
    return found


words = st.text(alphabet="ab \n\tü日🎉.<", min_size=0, max_size=40)
exchange = st.tuples(words, words)
conversation = st.builds(
    lambda system, turns, last: [
        *([("system", system)] if system else []),
        *[turn for user, answer in turns for turn in (("user", user), ("assistant", answer))],
        *([("user", last)] if last else []),
    ],
    words,
    st.lists(exchange, min_size=1, max_size=4),
    words,
)


@given(
    conversations=st.lists(conversation, min_size=1, max_size=12),
    limit=st.integers(24, 400),
    chunk=st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_the_same_as_one_row_after_the_other(
    conversations: list[list[tuple[str, str]]],
    limit: int,
    chunk: int,
    chatml: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [row(3 * i, *turns) for i, turns in enumerate(conversations)]
    file = tmp_path_factory.mktemp("rows") / "r"
    write_snapshot(file, rows)
    expected = straightforward(rows, chatml, limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize_module, "_CHUNK_ROWS", chunk)
        if not expected:
            with pytest.raises(EngineError, match="no row can be trained on"):
                tokenized(file, chatml, max_seq_length=limit)
            return
        data = tokenized(file, chatml, max_seq_length=limit)
    assert [(e.sample, e.tokens.tolist(), e.supervised.tolist()) for e in data.examples] == expected
    assert data.lengths.tolist() == [len(tokens) for _, tokens, _ in expected]
    assert data.tokens == sum(data.lengths)
    assert data.trained_tokens == sum(sum(mask) for *_, mask in expected)
    assert len(data.dropped) == len(rows) - len(expected)


def test_a_long_row_ends_a_chunk_and_order_stays(chatml: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize_module, "_CHUNK_CHARACTERS", 200)
    rows = [row(i, ("user", f"Say {i}"), ("assistant", str(i) * (1 + 97 * (i % 3)))) for i in range(30)]
    rows[7]["messages"].pop()
    write_snapshot(tmp_path / "r", rows)
    told: list[tuple[int, int]] = []
    data = tokenized(tmp_path / "r", chatml, max_seq_length=4096, progress=lambda *at: told.append(at))
    assert [e.sample for e in data.examples] == [i for i in range(30) if i != 7]
    assert [chatml.decode(e.tokens[e.supervised]) for e in data.examples] == [
        r["messages"][1]["content"] + END for r in rows if r["sample"] != 7
    ]
    assert told == [(i, 30) for i in range(31)]


def test_a_stop_is_heard_while_rows_are_tokenised(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", questions(2000))

    def stop(done: int, total: int) -> None:
        if done == 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenized(tmp_path / "r", chatml, progress=stop)


# ---- what is learned ----


def runs(example: Example, tokenizer: Any) -> list[str]:
    """The texts of the runs of supervised tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.supervised.astype(int), [0]])))
    return [tokenizer.decode(example.tokens[a:b].tolist()) for a, b in edges.reshape(-1, 2)]


def text_of(example: Example, tokenizer: Any) -> str:
    return tokenizer.decode(example.tokens.tolist())


def flagged(sample: int, *turns: tuple[str, str, bool]) -> dict[str, Any]:
    messages = [
        {"role": role, "content": content, **({} if train else {"train": False})} for role, content, train in turns
    ]
    return {"sample": sample, "messages": messages}


@given(flags=st.lists(st.booleans(), min_size=1, max_size=5), loss_on=st.sampled_from(["completions", "all"]))
@settings(max_examples=40, deadline=None)
def test_turns_with_train_false_are_shown_but_not_learned(
    flags: list[bool], loss_on: str, chatml: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    turns = [t for i, flag in enumerate(flags) for t in (("user", f"Q{i}", True), ("assistant", f"A{i}.", flag))]
    file = tmp_path_factory.mktemp("rows") / "r"
    write_snapshot(file, [flagged(0, *turns), row(1, ("user", "Hi"), ("assistant", "Hello"))])
    data = tokenized(file, chatml, loss_on=loss_on)
    if loss_on == "completions" and not any(flags):
        assert data.dropped.samples == [0]
        assert data.warnings == [
            ("rows_dropped", "1 row (sample 0) dropped: none of its assistant turns is to be learned")
        ]
        return
    example = data.examples[0]
    learned = "|".join(runs(example, chatml))
    text = chatml.decode(example.tokens.tolist())
    for i, flag in enumerate(flags):
        assert (f"A{i}.{END}" in learned) == flag
        assert (f"A{i}.{END}" in text) or not any(flags[i:])
    if loss_on == "all":
        assert not example.supervised[0]
        unlearned = sum(
            len(chatml.encode(f"A{i}.{END}", add_special_tokens=False)) for i, f in enumerate(flags) if not f
        )
        assert example.trained == len(example.tokens) - 1 - unlearned


TALK = [("user", "One?"), ("assistant", "1."), ("user", "Two?"), ("assistant", "2."), ("user", "Bye")]


@pytest.mark.parametrize(
    ("loss_on", "learned", "shown"),
    [
        ("completions", [f"1.{END}", f"2.{END}"], f"assistant\n2.{END}"),
        ("last_completion", [f"2.{END}"], f"assistant\n2.{END}"),
        ("all", None, f"<|im_start|>user\nBye{END}\n"),
    ],
)
def test_loss_on(loss_on: str, learned: list[str] | None, shown: str, chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", [row(0, *TALK)])
    (example,) = tokenized(tmp_path / "r", chatml, loss_on=loss_on).examples
    text = chatml.decode(example.tokens.tolist())
    assert text.endswith(shown)
    assert runs(example, chatml) == (learned if learned is not None else [text.removeprefix("<|im_start|>")])


def test_the_last_completion_of_a_template_that_hides_thinking_is_no_split_row(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template=THINKING)
    tokenizer = load_tokenizer(tmp_path)
    turns = [("user", "1?"), ("assistant", "<think>a</think>1"), ("user", "2?"), ("assistant", "<think>b</think>2")]
    write_snapshot(tmp_path / "r", [row(0, *turns)])
    data = tokenized(tmp_path / "r", tokenizer, loss_on="last_completion")
    assert [runs(e, tokenizer) for e in data.examples] == [[f"<think>b</think>2{END}"]]
    assert data.warnings == []
    (example,) = tokenized(tmp_path / "r", tokenizer, loss_on="all").examples
    assert text_of(example, tokenizer).endswith(f"assistant\n<think>b</think>2{END}\n")
    assert example.trained == len(example.tokens) - 1


def test_flags_choose_among_the_samples_of_a_split_row(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template=THINKING)
    tokenizer = load_tokenizer(tmp_path)
    turns = [
        ("user", "1?", True),
        ("assistant", "<think>a</think>1", True),
        ("user", "2?", True),
        ("assistant", "<think>b</think>2", False),
        ("user", "3?", True),
        ("assistant", "<think>c</think>3", True),
    ]
    write_snapshot(tmp_path / "r", [flagged(0, *turns), row(1, ("user", "Hi"), ("assistant", "Hello"))])
    data = tokenized(tmp_path / "r", tokenizer)
    assert [runs(e, tokenizer) for e in data.examples] == [
        [f"<think>a</think>1{END}"],
        [f"<think>c</think>3{END}"],
        [f"Hello{END}"],
    ]
    everything = tokenized(tmp_path / "r", tokenizer, loss_on="all")
    assert everything.dropped.samples == [0]
    assert "those with train: false cannot be told" in everything.warnings[0][1]


def test_neighbours_that_a_template_wants_joined_are_learned_if_both_are(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template=STRICT)
    tokenizer = load_tokenizer(tmp_path)
    rows = [
        flagged(0, ("user", "Q", True), ("assistant", "A", True), ("assistant", "B", False)),
        flagged(1, ("user", "Q", True), ("assistant", "A", True), ("assistant", "B", True)),
    ]
    write_snapshot(tmp_path / "r", rows)
    data = tokenized(tmp_path / "r", tokenizer)
    assert data.dropped.samples == [0]
    assert [runs(e, tokenizer) for e in data.examples] == [[f"A\n\nB{END}"]]


@pytest.mark.parametrize("loss_on", ["completions", "last_completion", "all"])
def test_base_models_learn_by_the_same_rules(loss_on: str, tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template=False)
    tokenizer = load_tokenizer(tmp_path)
    write_snapshot(tmp_path / "r", [row(0, *TALK), flagged(1, ("user", "x", True), ("assistant", "y", False))])
    data = tokenized(tmp_path / "r", tokenizer, loss_on=loss_on)
    first = data.examples[0]
    talk = "USER: One?\nASSISTANT: 1.<|endoftext|>\nUSER: Two?\nASSISTANT: 2.<|endoftext|>"
    expected = {
        "completions": ([" 1.<|endoftext|>", " 2.<|endoftext|>"], talk),
        "last_completion": ([" 2.<|endoftext|>"], talk),
        "all": ([f"{talk}\nUSER: Bye"[1:]], f"{talk}\nUSER: Bye"),
    }[loss_on]
    assert (runs(first, tokenizer), text_of(first, tokenizer)) == expected
    assert data.dropped.samples == ([] if loss_on == "all" else [1])


def test_an_end_token_is_added_where_nothing_that_is_learned_follows(tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}")
    tokenizer = load_tokenizer(tmp_path)
    write_snapshot(tmp_path / "r", [row(0, *TALK), row(1, *TALK[:-1])])
    talk = "user: One?\nassistant: 1.\nuser: Two?\nassistant: 2."
    for loss_on, expected in (
        ("completions", [f"{talk}{END}", f"{talk}{END}"]),
        ("all", [f"{talk}\nuser: Bye\n", f"{talk}{END}"]),
    ):
        data = tokenized(tmp_path / "r", tokenizer, loss_on=loss_on)
        assert [text_of(example, tokenizer) for example in data.examples] == expected


# ---- rows that are too long ----


def long_rows() -> list[dict[str, Any]]:
    return [
        row(0, ("user", "Hi"), ("assistant", "Hello")),
        row(1, ("user", "Hi"), ("assistant", "word " * 60)),
        row(2, ("user", "Hi"), ("assistant", "One."), ("user", "More"), ("assistant", "word " * 90)),
        row(3, ("user", "word " * 90), ("assistant", "Hello")),
    ]


def test_truncate_cuts_and_counts(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", long_rows())
    data = tokenized(tmp_path / "r", chatml, max_seq_length=48)
    assert [e.sample for e in data.examples] == [0, 1, 2]
    assert (data.truncated.samples, data.dropped.samples) == ([1, 2], [3])
    assert runs(data.examples[2], chatml) == [f"One.{END}"]


def test_drop_leaves_long_rows_out_and_tells(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", long_rows())
    longest = max(tokenized(tmp_path / "r", chatml, max_seq_length=4096).lengths)
    data = tokenized(tmp_path / "r", chatml, max_seq_length=48, truncation="drop")
    assert [e.sample for e in data.examples] == [0]
    assert (len(data.truncated), data.dropped.samples) == (0, [1, 2, 3])
    assert data.warnings == [
        (
            "rows_dropped",
            f"3 rows (samples 1, 2, 3) dropped: longer than max_seq_length 48; the longest has {longest} tokens",
        )
    ]


def test_error_names_rows_lengths_and_the_limit(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", long_rows())
    lengths = tokenized(tmp_path / "r", chatml, max_seq_length=4096).lengths
    with pytest.raises(EngineError) as error:
        tokenized(tmp_path / "r", chatml, max_seq_length=48, truncation="error")
    assert error.value.kind == "invalid_dataset"
    assert str(error.value) == (
        f"3 rows are longer than max_seq_length 48 (sample 1: {lengths[1]} tokens, sample 2: {lengths[2]} tokens, "
        f"sample 3: {lengths[3]} tokens); the longest has {max(lengths)} tokens. Raise dataset.max_seq_length, or set "
        'dataset.truncation to "truncate" or "drop"'
    )
    data = tokenized(tmp_path / "r", chatml, max_seq_length=int(max(lengths)), truncation="error")
    assert len(data.examples) == 4


def test_the_limit_is_the_models_context_where_that_is_shorter(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", long_rows())
    with pytest.raises(EngineError, match=r"longer than the model's context of 48 tokens .* Set dataset.truncation"):
        tokenized(tmp_path / "r", chatml, max_seq_length=512, context_length=48, truncation="error")


def test_what_is_not_learned_does_not_count_as_too_long(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", [row(0, ("user", "Hi"), ("assistant", "Hello"), ("user", "word " * 60))])
    data = tokenized(tmp_path / "r", chatml, max_seq_length=48, truncation="error")
    assert runs(data.examples[0], chatml) == [f"Hello{END}"]
    with pytest.raises(EngineError, match="longer than"):
        tokenized(tmp_path / "r", chatml, max_seq_length=48, truncation="error", loss_on="all")


def test_everything_is_cut_at_the_limit_with_the_answers_end_token(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", [row(0, ("user", "Hi"), ("assistant", "x" * 12), ("user", "Bye"))])
    (whole,) = tokenized(tmp_path / "r", chatml, loss_on="all").examples
    every = whole.tokens.tolist()
    end = chatml.convert_tokens_to_ids(END)
    start = next(k for k in range(len(every)) if "x" in chatml.decode(every[k : k + 1]))
    stop = every.index(end, start)
    for limit in range(8, len(every) + 2):
        (example,) = tokenized(tmp_path / "r", chatml, max_seq_length=limit, loss_on="all").examples
        if start + 1 < limit <= stop:
            expected = [*every[: limit - 1], end]
        else:
            expected = every[: start if limit == start + 1 else limit]  # an end token alone teaches to say nothing
        assert example.tokens.tolist() == expected
        assert example.supervised.tolist() == [False] + [True] * (len(expected) - 1)


def test_examples_are_a_sequence(chatml: Any, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "r", questions(5))
    examples = tokenized(tmp_path / "r", chatml).examples
    assert [e.sample for e in examples[1:4]] == [1, 2, 3]
    assert examples[-1].tokens.tolist() == examples[4].tokens.tolist()
    assert examples[np.int64(2)].sample == 2
    assert examples[0].tokens.dtype == np.int32
    assert examples[0].supervised.dtype == bool
    with pytest.raises(IndexError):
        examples[5]
