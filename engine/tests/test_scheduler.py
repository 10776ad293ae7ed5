"""Who is taken on, who waits, what is kept and what is given back."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache

from house import House, request
from mlx_engine import kernels
from mlx_engine.models.load import load_model
from mlx_engine.protocol import Done, Error, Token
from mlx_engine.serving.pool import Pool
from mlx_engine.serving.prefixes import Prefixes
from serve_client import make_adapter, make_letter
from serving_soak import flat, soak
from tiny import make_tiny_model

LONG = "Give three tips for staying healthy. Eat a balanced diet, sleep enough and take a walk every day. "


@pytest.fixture(scope="module", autouse=True)
def with_kernels() -> Iterator[None]:
    with kernels.patched(kernels.load()):
        yield


@pytest.fixture(scope="module")
def endless(models) -> Path:
    return make_letter(models / "endless", "ab")


def active(house: House) -> set[str]:
    """Who has been told a token in the last step."""
    before = len(house.frames)
    house.scheduler.step()
    return {frame.id for frame in house.frames[before:] if isinstance(frame, Token)}


def test_a_full_queue_is_told_and_says_when_to_come_back(endless):
    house = House(max_batch=1, queue=2)
    for id in "abcd":
        house.scheduler.submit(request(id, endless, max_tokens=500))
        if id == "a":
            house.scheduler.step()
    refused = house.ends()["d"]
    assert isinstance(refused, Error)
    assert (refused.kind, refused.message[:25]) == ("busy", "2 requests are waiting al")
    assert 1 <= refused.retry_after <= 60


def test_a_cancelled_answer_frees_its_place_at_once(endless):
    house = House(max_batch=2)
    for id in "abc":
        house.scheduler.submit(request(id, endless, max_tokens=500))
    house.scheduler.step()
    assert active(house) == {"a", "b"}
    house.scheduler.cancel("a")
    assert house.ends()["a"].finish_reason == "cancelled"
    house.scheduler.step()
    assert active(house) == {"b", "c"}


def test_a_long_prompt_does_not_hold_up_those_who_decode(endless):
    house = House(prefill_tokens=16)
    house.scheduler.submit(request("a", endless, max_tokens=500))
    house.scheduler.step()
    house.scheduler.submit(request("b", endless, prompt="ab" * 300, max_tokens=2))
    told = [active(house) for _ in range(12)]
    assert all("a" in ids for ids in told)
    assert not any("b" in ids for ids in told)


class Tokenizing:
    """Texts of 3,000 characters and more are tokenised only once `go` is set; `begun` says that one is about to be."""

    def __init__(self, tokenizer: type, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        encode = tokenizer.encode

        def held(tokenizer, text, *args, **options):
            if len(text) >= 3000:
                self.begun.set()
                assert self.go.wait(60)
            return encode(tokenizer, text, *args, **options)

        patch.setattr(tokenizer, "encode", held)


@pytest.fixture
def tokenizing(endless, monkeypatch) -> Iterator[Tokenizing]:
    tokenizer = load_model(endless, dtype=mx.float32, lazy=True).tokenizer._tokenizer
    held = Tokenizing(type(tokenizer), monkeypatch)
    yield held
    held.go.set()


def test_a_long_text_is_tokenised_while_others_decode_and_nobody_overtakes_it(endless, tokenizing):
    house = House()
    house.scheduler.submit(request("a", endless, max_tokens=400))
    house.scheduler.step()
    house.scheduler.submit(request("long", endless, prompt="ab" * 1500, max_tokens=2))
    house.scheduler.submit(request("next", endless, max_tokens=2))
    assert [active(house) for _ in range(5)] == [{"a"}] * 5
    assert tokenizing.begun.wait(60)
    assert [active(house) for _ in range(5)] == [{"a"}] * 5
    tokenizing.go.set()
    while "long" not in {work.request.id for batch in house.scheduler._batches for work in batch.works}:
        assert "next" not in active(house)
    house.run()
    long, alone = house.ends()["long"], House().ask(request("b", endless, prompt="ab" * 1500, max_tokens=2))[0]
    assert (long.text, long.prompt_tokens) == (alone.text, alone.prompt_tokens)


def test_a_text_that_is_cancelled_or_refused_while_it_is_tokenised_lets_the_next_one_in(endless, tokenizing):
    house = House()
    for id, count in (("gone", 1500), ("far too long", 3000), ("next", 2)):
        house.scheduler.submit(request(id, endless, prompt="ab" * count, max_tokens=2))
    house.scheduler.step()  # waits for a moment, as there is nothing else to do
    assert tokenizing.begun.is_set()
    assert not house.frames
    house.scheduler.cancel("gone")
    assert house.ends()["gone"].finish_reason == "cancelled"
    tokenizing.go.set()
    house.run()
    ends = house.ends()
    assert ends["far too long"].kind == "context_length"
    assert ends["next"].completion_tokens == 2
    assert house.scheduler._aside._doing is None


def test_bases_take_turns_and_one_without_room_waits_for_the_others_to_end(tmp_path):
    one, two = (make_letter(tmp_path / name, "ab") for name in ("one", "two"))
    both = House()
    for id, path in (("a", one), ("b", two)):
        both.scheduler.submit(request(id, path, max_tokens=60))
    for _ in range(2):
        both.scheduler.step()  # the prompts
    assert [active(both) for _ in range(4)] == [{"a"}, {"b"}, {"a"}, {"b"}]
    house = House()
    house.bases._budget = 1.5 * next(iter(both.bases.loaded)).nbytes  # for one of the two
    for id, path in (("a", one), ("b", two), ("c", one)):
        house.scheduler.submit(request(id, path, max_tokens=5))
    house.run()
    assert [frame.id for frame in house.frames if isinstance(frame, Done)] == ["a", "b", "c"]
    assert house.loads == [str(one), str(two), str(one)]


def test_a_prompt_that_was_computed_is_not_computed_again_by_the_same_weights(chat, models):
    house = House()
    tuned = make_adapter(models / "kept", chat, seed=1)
    (first,) = house.ask(request("a", chat, prompt=LONG * 3 + "And"))
    (again,) = house.ask(request("b", chat, prompt=LONG * 3 + "Or"))
    assert first.cached_tokens == 0
    assert again.prompt_tokens - 6 < again.cached_tokens < again.prompt_tokens
    (other,) = house.ask(request("c", chat, tuned, prompt=LONG * 3 + "And"))
    assert other.cached_tokens == 0
    make_adapter(tuned, chat, seed=2)
    (changed,) = house.ask(request("d", chat, tuned, prompt=LONG * 3 + "And"))
    assert changed.cached_tokens == 0
    fresh = House().ask(request("d", chat, tuned, prompt=LONG * 3 + "And"))[0]
    assert changed.text == fresh.text != other.text


def test_a_chat_that_grows_is_continued_where_it_ended(chat):
    house = House()
    prompt = LONG * 2
    (first,) = house.ask(request("a", chat, prompt=prompt, max_tokens=30, logprobs=0))
    ids = [entry.id for frame in house.frames if isinstance(frame, Token) for entry in frame.logprobs]
    assert first.completion_tokens == len(ids) == 30
    prefixes = house.scheduler._prefixes
    version = next(iter(prefixes._entries.values()))[0]
    known = next(iter(prefixes._entries.values()))[1].tokens.tolist()
    assert len(prefixes) == 1  # the prompt's entry went into that of the whole
    assert len(known) == first.prompt_tokens + 29
    assert prefixes.find(version, [*known, 7, 7])[0] == len(known)


def test_the_prompt_cache_keeps_to_its_limit_and_goes_with_its_base(chat, tmp_path):
    other = make_tiny_model(tmp_path / "other")
    house = House(prompt_cache_mb=1)
    asked = [request(str(i), chat, prompt=f"{i} " + LONG * 6, max_tokens=1) for i in range(12)]
    house.ask(*asked)
    prefixes = house.scheduler._prefixes
    assert 0 < prefixes.nbytes <= 10**6
    assert prefixes.nbytes == sum(entry.nbytes for _, entry in prefixes._entries.values())
    assert house.ask(request("last", chat, prompt=asked[-1].prompt + "x", max_tokens=1))[0].cached_tokens > 0
    assert house.ask(request("first", chat, prompt=asked[0].prompt + "x", max_tokens=1))[0].cached_tokens < 16
    house.bases._budget = 0
    house.ask(request("other", other))
    assert {version[0] for version, _ in prefixes._entries.values()} <= {base.version for base in house.bases.loaded}


@pytest.mark.parametrize("length", [20, 500])
def test_the_prompt_cache_holds_no_more_than_it_counts(length):
    """Of caches that have room for 256 and 512 positions, those that are known, or all when they are few more."""
    prefixes = Prefixes(10**9)
    before = mx.get_active_memory()
    for entry in range(10):
        layers = [KVCache() for _ in range(4)]
        for layer in layers:
            keys = mx.ones((1, 3, length, 64))
            layer.update_and_fetch(keys, keys)
        mx.eval([layer.state for layer in layers])
        prefixes.add((1, None), [entry] * length, layers)
    del layers, layer, keys
    held = mx.get_active_memory() - before
    assert 0 < held < 1.01 * prefixes.nbytes < 1.3 * 10 * 4 * 2 * 3 * length * 64 * 4


def test_more_adapters_than_slots_and_no_room_for_all(chat, models):
    adapters = [make_adapter(models / f"many-{i}", chat, rank=1 + i % 5, seed=i) for i in range(12)]
    alone = [House().ask(request("x", chat, adapter))[0].text for adapter in adapters]
    assert len(set(alone)) > 6
    house = House(max_batch=3, adapters_mb=1)
    for turn in range(2):
        asked = [request(f"{turn}-{i}", chat, adapter) for i, adapter in enumerate(adapters)]
        assert [done.text for done in house.ask(*asked)] == alone


def test_an_adapter_that_is_deleted_serves_whoever_has_it_and_nobody_else(chat, tmp_path):
    tuned = make_adapter(tmp_path / "tuned", chat, seed=5)
    options = {"text": "Tip", "max_tokens": 12}
    alone = House().ask(request("x", chat, tuned, **options))[0].text
    house = House(max_batch=3)
    house.scheduler.submit(request("has it", chat, tuned, n=2, **options))
    house.scheduler.submit(request("base", chat, **options))
    house.scheduler.step()
    house.scheduler.submit(request("waits", chat, tuned, **options))
    house.scheduler.step()
    shutil.rmtree(tuned)
    house.run()
    ends = house.ends()
    assert [choice.text for choice in ends["has it"].choices] == [alone, alone]
    assert ends["base"].text == House().ask(request("x", chat, **options))[0].text != alone
    assert (ends["waits"].kind, ends["waits"].message) == (
        "invalid_model",
        f"{tuned}: no adapter: adapter_config.json is missing",
    )


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "top_p": 0.9}, {"logprobs": 2}, {"min_p": 0.1}])
def test_an_adapter_of_nan_fails_alone_and_says_so(chat, tmp_path, options):
    broken, sound = make_adapter(tmp_path / "broken", chat, seed=1), make_adapter(tmp_path / "sound", chat, seed=2)
    weights = {name: array * float("nan") for name, array in mx.load(str(broken / "adapters.safetensors")).items()}
    mx.save_safetensors(str(broken / "adapters.safetensors"), weights)
    alone = House().ask(request("x", chat, sound, seed=1, **options))[0]
    asked = [request(str(i), chat, path, seed=1, **options) for i, path in enumerate([broken, sound, broken, sound])]
    failed, *_ = done = House().ask(*asked)
    assert (failed.kind, "NaN" in failed.message) == ("non_finite", True)
    assert [end.choices for end in done[1::2]] == [alone.choices] * 2


def test_nothing_infinite_is_left_in_a_slot_whose_mask_is_an_array():
    def row(value: float, length: int) -> list[KVCache]:
        cache = KVCache()
        cache.update_and_fetch(*[mx.full((1, 2, length, 4), value)] * 2)
        return [cache]

    for leaving in (0, 1):
        pool = Pool(1, fused=False)
        values = [mx.nan, 1.0] if leaving == 0 else [1.0, mx.nan]
        for value in values:
            pool.join(row(value, 5))
        pool.leave(leaving)
        pool.join(row(1.0, 2))
        pool.advance()
        held = pool.layers[0].update_and_fetch(*[mx.ones((2, 2, 1, 4))] * 2)
        assert all(mx.isfinite(array).all() for array in held)
    pool = Pool(1, fused=False)
    for value in (1.0, mx.nan):
        pool.join(row(value, 5))
    pool.leave(0)  # the other takes its place, and leaves nothing where it was
    assert mx.isfinite(pool.layers[0].update_and_fetch(*[mx.ones((2, 2, 1, 4))] * 2)[0][1]).all()


def test_n_answers_differ_and_each_is_what_a_seed_makes_it(chat):
    options = {"temperature": 1.5, "seed": 3, "n": 3, "max_tokens": 12}
    (done,) = House().ask(request("a", chat, **options))
    texts = [choice.text for choice in done.choices]
    assert len(set(texts)) == 3
    assert done.completion_tokens == sum(choice.completion_tokens for choice in done.choices)
    assert [choice.text for choice in House().ask(request("b", chat, **options))[0].choices] == texts
    assert House().ask(request("c", chat, **(options | {"n": 1})))[0].text == texts[0]


def test_memory_is_flat_over_requests_cancels_and_adapters(tmp_path):
    """The long form is part of npm run test:soak."""
    found = soak(tmp_path, seed=7, rounds=5, requests=8)
    assert flat(found["bytes"]), found
    assert sum(found["answered"]) > 25


def test_an_answer_that_has_no_room_for_its_keys_and_values_waits_and_one_that_never_has_is_refused(endless):
    house = House(kv_mb=1)  # 512 bytes a position; up to 512 positions a row, of which there are 1, 2 or 4
    for id in "abc":
        house.scheduler.submit(request(id, endless, prompt="ab" * 30, max_tokens=400))
    house.scheduler.step()
    assert active(house) == {"a", "b"}
    house.scheduler.cancel("a")
    house.scheduler.step()
    assert active(house) == {"b", "c"}
    house.run()
    assert [house.ends()[id].finish_reason for id in "abc"] == ["cancelled", "length", "length"]
    (refused,) = house.ask(request("d", endless, prompt="ab" * 30, max_tokens=4000))
    assert isinstance(refused, Error)
    assert refused.kind == "invalid_parameters"
    assert "MLX_TRAINING_GENERATION_KV_MB allows 1 MB" in refused.message
    fitting = int(refused.message.rpartition("lower max_tokens to ")[2])
    assert 400 < fitting < 4000
    (fits,) = house.ask(request("e", endless, prompt="ab" * 30, max_tokens=fitting))
    assert isinstance(fits, Done)


def test_a_prompt_of_one_token_whose_neighbour_is_cancelled_before_its_first_step(endless):
    house = House()
    for id in "ab":
        house.scheduler.submit(request(id, endless, prompt="a", max_tokens=3))
    house.scheduler.step()
    house.scheduler.cancel("a")
    house.run()
    assert house.ends()["b"].finish_reason == "length"
