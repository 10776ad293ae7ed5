"""Many answers at a time are each what they are alone, whatever else comes and goes."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from house import House, request
from mlx_engine import blas, kernels
from mlx_engine.protocol import Done, Generate, Token, TokenLogprob
from serve_client import expected, make_adapter
from tiny import make_tiny_model


@pytest.fixture(scope="module", autouse=True)
def with_kernels() -> Iterator[None]:
    with kernels.patched(kernels.load()):
        yield


@pytest.fixture(scope="module")
def biased(models) -> Path:
    return make_tiny_model(models / "biased", model_type="qwen2", seed=3)


@pytest.fixture(scope="module")
def tuned(models, chat, biased) -> list[tuple[Path, Path | None]]:
    """(model, adapter): two bases, adapters of several ranks, kinds and places."""
    return [
        (chat, None),
        (chat, make_adapter(models / "q", chat, rank=2, keys=["self_attn.q_proj"], seed=1)),
        (chat, make_adapter(models / "all", chat, rank=8, seed=2)),
        (chat, make_adapter(models / "mlp", chat, rank=4, keys=["mlp.up_proj", "mlp.down_proj"], seed=3)),
        (chat, make_adapter(models / "dora", chat, rank=4, seed=4, dora=True)),
        (chat, make_adapter(models / "words", chat, rank=4, keys=["embed_tokens", "self_attn.v_proj"], seed=5)),
        (biased, None),
        (biased, make_adapter(models / "biased-dora", biased, rank=4, seed=6, dora=True)),
        (biased, make_adapter(models / "biased-lora", biased, rank=3, seed=7)),
    ]


def test_greedy_answers_are_those_of_mlx_lm_for_every_kind_of_adapter_at_once(chat, tuned):
    house = House()
    asked = [request(str(i), model, adapter, f"Tip {i}") for i, (model, adapter) in enumerate(tuned)]
    for (model, adapter), done in zip(tuned, house.ask(*asked), strict=True):
        text, count = expected(model, f"Tip {done.id}", 8, adapter)
        assert (done.text, done.completion_tokens) == (text, count)
    # One batch for each base and all that is stacked over it, one for the adapter of the embedding.
    assert len({done.text for done in house.ends().values()}) > 6


# Without MKL's strict mode, or where the kernels could not be built, the last bits may differ: docs/generation.md.
EXACT = blas.same_rows() and "linear_rows" in kernels.load()
SHARED = "Give three tips for staying healthy, and say why each of them helps. "


def same(told: list[TokenLogprob], alone: list[TokenLogprob]) -> bool:
    """The same tokens, with the same bits where that is promised."""
    if EXACT:
        return told == alone
    return [entry.id for entry in told] == [entry.id for entry in alone] and [e.logprob for e in told] == pytest.approx(
        [entry.logprob for entry in alone], abs=1e-4
    )


PLANS = st.lists(
    st.fixed_dictionaries(
        {
            "which": st.integers(0, 8),
            "prompt": st.builds(
                str.__add__, st.sampled_from(["", "", SHARED, SHARED * 2]), st.text("ab cdé ", min_size=1, max_size=60)
            ),
            "max_tokens": st.integers(1, 10),
            "temperature": st.sampled_from([0.0, 0.0, 1.0, 1.7]),
            "seed": st.integers(0, 2**32 - 1),
            "top_k": st.sampled_from([0, 5]),
            "repetition_penalty": st.sampled_from([1.0, 1.3]),
            "n": st.sampled_from([1, 1, 1, 2]),
            "arrives": st.integers(0, 12),
            "leaves": st.none() | st.integers(0, 12),
        }
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=PLANS, max_batch=st.sampled_from([2, 3, 16]), prefill_tokens=st.sampled_from([1, 7, 128]))
def test_answers_are_the_same_in_a_batch_and_alone(tuned, alone, plans, max_batch, prefill_tokens):
    house = House(max_batch=max_batch, prefill_tokens=prefill_tokens)
    requests = []
    for i, plan in enumerate(plans):
        model, adapter = tuned[plan["which"]]
        options = {name: value for name, value in plan.items() if name not in ("which", "arrives", "leaves")}
        requests.append(request(str(i), model, adapter, logprobs=1, **options))
    for step in range(13):
        for asked, plan in zip(requests, plans, strict=True):
            if plan["arrives"] == step:
                house.scheduler.submit(asked)
            if plan["leaves"] == step and plan["arrives"] <= step:
                house.scheduler.cancel(asked.id)
        house.scheduler.step()
    house.run()
    ends = house.ends()
    assert set(ends) == {asked.id for asked in requests}
    for asked in requests:
        done, whole = ends[asked.id], alone(asked)
        assert isinstance(done, Done), done
        for index, (choice, other) in enumerate(zip(done.choices, whole.choices, strict=True)):
            told = [frame for frame in house.frames if isinstance(frame, Token) and frame.id == asked.id]
            told = [frame for frame in told if frame.index == index]
            assert "".join(frame.text for frame in told) == choice.text
            if choice.finish_reason == "cancelled":
                assert other.completion_tokens >= choice.completion_tokens
            else:
                assert choice == other
            logprobs = [entry for frame in told for entry in frame.logprobs]
            assert same(logprobs, alone.logprobs(asked, index)[: len(logprobs)])
            assert len(logprobs) == choice.completion_tokens


def test_prompts_known_from_answers_that_were_cancelled_lead_to_the_same_answers(tuned, alone):
    """Cancelled while their prompts are computed, while they decode, and after; asked again by other adapters, too."""
    for steps in (1, 3, 6, 9):
        house = House(prefill_tokens=16)
        first = [
            request(f"{i}", model, adapter, SHARED * 3, max_tokens=6, logprobs=1)
            for i, (model, adapter) in enumerate(tuned)
        ]
        for asked in first:
            house.scheduler.submit(asked)
        for _ in range(steps):
            house.scheduler.step()
        for asked in first[::2]:
            house.scheduler.cancel(asked.id)
        again = [
            request(f"again-{i}", model, adapter, SHARED * 3 + "Begin.", max_tokens=6, logprobs=1)
            for i, (model, adapter) in enumerate(tuned)
        ]
        found = house.ask(*again)
        for asked, done in zip(again, found, strict=True):
            assert done.choices == alone(asked).choices
            told = [e for f in house.frames if isinstance(f, Token) and f.id == asked.id for e in f.logprobs]
            assert same(told, alone.logprobs(asked, 0))
    assert sum(done.cached_tokens > 16 for done in found) >= len(tuned) // 2


@pytest.fixture(scope="module")
def alone():
    """Each request in a house of its own; the same request is asked once."""

    class Alone:
        def __init__(self) -> None:
            self._frames: dict[bytes, list] = {}

        def _of(self, asked: Generate) -> list:
            key = msgspec.json.encode(msgspec.structs.replace(asked, id=""))
            if key not in self._frames:
                house = House()
                house.ask(asked)
                self._frames[key] = house.frames
            return self._frames[key]

        def __call__(self, asked: Generate) -> Done:
            return self._of(asked)[-1]

        def logprobs(self, asked: Generate, index: int) -> list:
            frames = [f for f in self._of(asked) if isinstance(f, Token) and f.index == index]
            return [entry for frame in frames for entry in frame.logprobs]

    return Alone()
