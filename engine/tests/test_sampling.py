"""The sampler against the definitions, written out the slow way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from mlx_engine.protocol import Generate
from mlx_engine.serving.sampling import Sampler, likeliest, log_softmax


def request(**changes) -> Generate:
    fields = {"messages": None, "prompt": "x", "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "stop": [], "seed": 0}
    return Generate(id="g", model_path="/m", adapter_path=None, **(fields | changes))


def drawn(logits: np.ndarray, count: int = 300, **changes) -> set[int]:
    sampler = Sampler(request(**changes), [])
    return {sampler.sample(logits).token for _ in range(count)}


HALVES = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def test_each_filter_leaves_what_it_says():
    assert drawn(HALVES, top_p=0.7) == {0, 1}  # the fewest that reach it
    assert drawn(HALVES, top_p=0.5) == {0}
    assert drawn(HALVES, top_k=3) == {0, 1, 2}
    assert drawn(HALVES, top_k=9) == {0, 1, 2, 3}
    assert drawn(HALVES, min_p=0.25) == {0, 1, 2}
    assert drawn(HALVES, top_k=3, top_p=0.8) == {0, 1}
    assert drawn(HALVES - 5000, temperature=0.01, top_p=0.99) == {0}  # no underflow
    assert drawn(HALVES, temperature=0.0) == {0}


def test_tokens_are_drawn_as_often_as_they_are_likely():
    sampler = Sampler(request(), [])
    counts = np.bincount([sampler.sample(HALVES).token for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_a_large_nucleus_is_found_beyond_the_first_guess():
    flat = np.zeros(1000, np.float32)
    assert len(drawn(flat, 5000, top_p=0.5)) > 400
    assert max(drawn(flat, 5000, top_p=0.5)) < 500  # of equals the first


def test_penalties_are_those_of_transformers_and_openai():
    logits = np.array([2.0, 1.9, -1.0, -1.1], np.float32)
    greedy = {"temperature": 0.0}
    assert Sampler(request(repetition_penalty=2.0, **greedy), [0]).sample(logits).token == 1
    negative = np.array([-1.0, -1.1], np.float32)
    assert Sampler(request(repetition_penalty=2.0, **greedy), [0]).sample(negative).token == 1  # not -0.5
    presence = Sampler(request(presence_penalty=0.15, **greedy), [0, 0])  # the prompt does not count
    assert [presence.sample(logits).token for _ in range(4)] == [0, 1, 0, 0]
    frequency = Sampler(request(frequency_penalty=0.15, **greedy), [])
    assert [frequency.sample(logits).token for _ in range(4)] == [0, 1, 0, 1]


def test_seeds_and_answers_have_random_numbers_of_their_own():
    flat = np.zeros(50_000, np.float32)

    def some(seed: int | None, index: int = 0) -> list[int]:
        sampler = Sampler(request(seed=seed), [], index)
        return [sampler.sample(flat).token for _ in range(3)]

    assert some(7) == some(7) == some(7 + 2**64)
    assert len({tuple(some(seed)) for seed in (7, 8, -1, None, None)} | {tuple(some(7, 1))}) == 6


@given(stn.arrays(np.float32, st.integers(1, 40), elements=st.floats(-20, 20, width=16)), st.integers(0, 45))
def test_likeliest_are_the_first_of_a_stable_sort(scores, count):
    expected = sorted(range(scores.size), key=lambda i: (-scores[i], i))[:count]
    assert likeliest(scores, count).tolist() == expected


def test_logprobs_are_the_models_own_whatever_is_asked_for():
    sampled = Sampler(request(logprobs=2, temperature=0.2, presence_penalty=1.0, top_k=1), []).sample(HALVES)
    assert sampled.token == 0
    assert sampled.logprob == pytest.approx(np.log(0.5), abs=1e-6)
    assert [token for token, _ in sampled.top] == [0, 1]
    np.testing.assert_allclose(log_softmax(HALVES + 70), HALVES, atol=1e-5)
    assert Sampler(request(logprobs=0), []).sample(HALVES).top == ()
