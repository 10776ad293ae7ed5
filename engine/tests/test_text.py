from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mlx_engine.serving.text import Detokenizer, StopFilter
from tiny import make_tokenizer


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(edges)]


def expected(text: str, stops: list[str]) -> str:
    """Up to the stop sequence that completes first; of those that complete together, the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


WORDS = st.text("abc", max_size=30)


@given(text=WORDS, stops=st.lists(st.text("abc", max_size=4), max_size=4), places=st.lists(st.integers(0, 100)))
def test_stop_sequences_cut_the_same_however_the_text_comes(text, stops, places):
    filter = StopFilter(stops)
    shown = ""
    for piece in cut(text, places):
        shown += filter.add(piece)
        assert expected(text, stops).startswith(shown)  # nothing is shown that must be taken back
    assert shown + filter.finish() == expected(text, stops)
    assert filter.stopped == (expected(text, stops) != text)


def test_text_is_held_back_only_while_it_may_be_a_stop_sequence():
    filter = StopFilter(["</s>"])
    assert filter.add("a <") == "a "
    assert filter.add("b> <") == "<b> "
    assert filter.add("/s> more") == ""
    assert filter.stopped
    assert filter.add("more") == filter.finish() == ""


def tokenizer(folder):
    make_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_characters_appear_whole_and_spaces_stay(tmp_path):
    tokens = tokenizer(tmp_path)
    text = "  What is 🇫🇷?\n\n é中👍🏽 the capital"
    detokenizer = Detokenizer(tokens)
    pieces = [detokenizer.add(token) for token in tokens.encode(text, add_special_tokens=False)]
    assert "".join(pieces) + detokenizer.finish() == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 10


def test_special_tokens_have_no_text_and_a_broken_character_comes_at_the_end(tmp_path):
    tokens = tokenizer(tmp_path)
    detokenizer = Detokenizer(tokens)
    ids = tokens.encode("<|im_start|>é", add_special_tokens=False)
    assert [detokenizer.add(token) for token in ids[:-1]] == [""] * (len(ids) - 1)
    assert detokenizer.finish() == "\ufffd"


class Counting:
    """How many tokens are decoded at a time."""

    def __init__(self, tokens):
        self._tokens, self.most = tokens, 0

    def decode(self, ids, **options):
        self.most = max(self.most, len(ids))
        return self._tokens.decode(ids, **options)


@pytest.mark.parametrize("text", ["<|im_start|>", "\xe9"])
def test_what_never_becomes_text_is_not_decoded_from_its_beginning_again_and_again(tmp_path, text):
    """Special tokens, and bytes that begin a character and are followed by another that does."""
    tokens = tokenizer(tmp_path)
    endless, *_ = tokens.encode(text, add_special_tokens=False)
    after = tokens.encode(" é中 so", add_special_tokens=False)
    counting = Counting(tokens)
    detokenizer = Detokenizer(counting)
    shown = "".join([detokenizer.add(token) for token in [*[endless] * 500, *after]]) + detokenizer.finish()
    assert shown == tokens.decode([*[endless] * 500, *after], skip_special_tokens=True)
    assert counting.most <= 50


def test_text_continues_what_came_before(tmp_path):
    """Decoders in SentencePiece's manner drop a space at the beginning; within a text it must stay."""

    class Words:
        def decode(self, ids, *, skip_special_tokens):
            return " ".join(f"w{number}" for number in ids)

    alone, after = Detokenizer(Words()), Detokenizer(Words(), [1, 2])
    assert [alone.add(3), alone.add(4)] == ["w3", " w4"]
    assert [after.add(3), after.add(4)] == [" w3", " w4"]
