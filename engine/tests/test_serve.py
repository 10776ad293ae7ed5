import json
from pathlib import Path
from pipes import EngineProcess

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_engine import platform
from mlx_engine.adapters import Adapters
from mlx_engine.bases import Bases
from mlx_engine.chat import chat_tokens, end_tokens
from mlx_engine.generate import sampler
from mlx_engine.load import load_model
from mlx_engine.prompts import alpaca_text, conversation_text
from mlx_engine.protocol import ChatMessage, EngineError
from tiny import STRICT, make_tiny_model

ALL = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"]


def make_adapter(path: Path, base: Path, *, rank: int = 4, keys: list[str] = ALL, seed: int = 1, dora=False) -> Path:
    """As mlx-lm writes them, with random matrices large enough to change every answer."""
    loaded = load_model(base, dtype=mx.float32)
    loaded.model.freeze()
    config = {"rank": rank, "scale": 8.0, "dropout": 0.1, "keys": keys}
    linear_to_lora_layers(loaded.model, len(loaded.model.layers), config, use_dora=dora)
    key = mx.random.key(seed)
    weights = {}
    for name, array in tree_flatten(loaded.model.trainable_parameters()):
        key, now = mx.random.split(key)
        weights[name] = array if name.endswith(".m") else 0.3 * mx.random.normal(array.shape, key=now)
    path.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(path / "adapters.safetensors"), weights)
    kind = "dora" if dora else "lora"
    content = {"fine_tune_type": kind, "num_layers": len(loaded.model.layers), "lora_parameters": config}
    (path / "adapter_config.json").write_text(json.dumps(content))
    return path


def greedy(model, prompt: list[int], ends: set[int], limit: int) -> list[int]:
    """Without cache and without mlx-lm's generation: the whole text anew for every token."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + limit:
        tokens.append(mx.argmax(model(mx.array([tokens]))[0, -1]).item())
        if tokens[-1] in ends:
            break
    return tokens[len(prompt) :]


class Client:
    def __init__(self, process: EngineProcess) -> None:
        self.process = process
        self._count = 0

    def send(self, model: Path, text: str | None = "Hi", **changes) -> str:
        self._count += 1
        request = {
            "id": f"g{self._count}",
            "model_path": str(model),
            "adapter_path": None,
            "messages": None if text is None else [{"role": "user", "content": text}],
            "prompt": None,
            "max_tokens": 12,
            "temperature": 0.0,
            "top_p": 1.0,
            "stop": [],
            "seed": None,
            **changes,
        }
        self.process.send("generate", **request)
        return request["id"]

    def answer(self, id: str) -> dict:
        """The done or error frame of a request, whose tokens must add up to its text."""
        pieces = []
        for frame in self.process.frames():
            if frame["type"] == "loaded":
                continue
            assert frame["id"] == id
            if frame["type"] != "token":
                break
            assert frame["text"]
            pieces.append(frame["text"])
        if frame["type"] == "done":
            assert "".join(pieces) == frame["text"]
        return frame

    def ask(self, model: Path, text: str | None = "Hi", **changes) -> dict:
        return self.answer(self.send(model, text, **changes))

    def refused(self, model: Path, text: str | None = "Hi", **changes) -> tuple[str, str]:
        frame = self.ask(model, text, **changes)
        assert frame["type"] == "error"
        return frame["kind"], frame["message"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def chat(models) -> Path:
    return make_tiny_model(models / "chat")


@pytest.fixture(scope="module")
def client():
    with EngineProcess("-m", "mlx_engine.serve") as process:
        process.until("hello")
        yield Client(process)
        process.close_stdin()
        assert process.wait() == 0


def expected(model_path: Path, text: str, limit: int, adapter: Path | None = None) -> tuple[str, int]:
    """Text and number of tokens that mlx-lm's own loading of base and adapter gives."""
    loaded = load_model(model_path, dtype=mx.float32, adapter_path=adapter)
    prompt = chat_tokens(loaded.tokenizer, [ChatMessage(role="user", content=text)])
    tokens = greedy(loaded.model, prompt, end_tokens(loaded.tokenizer), limit)
    return loaded.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


# ---- answers ----


def test_greedy_answers_are_the_models_and_the_same_each_time(client, chat):
    first = client.ask(chat, "Give three tips")
    text, count = expected(chat, "Give three tips", 12)
    assert (first["text"], first["completion_tokens"]) == (text, count)
    loaded = load_model(chat, dtype=mx.float32, lazy=True)
    prompt = chat_tokens(loaded.tokenizer, [ChatMessage(role="user", content="Give three tips")])
    assert first["prompt_tokens"] == len(prompt)
    client.ask(chat, "something else", temperature=1.0)
    assert {**client.ask(chat, "Give three tips"), "id": ""} == {**first, "id": ""}


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
    assert kind == "invalid_parameters"
    assert "context window of 64" in message


def without_layers(path: Path) -> dict[str, mx.array]:
    """Writes a model whose head sees the normalised embedding alone; returns its weights."""
    make_tiny_model(path, tie_word_embeddings=False)
    weights = mx.load(str(path / "model.safetensors"))
    silent = ("o_proj.weight", "down_proj.weight")
    return {name: mx.zeros_like(array) if name.endswith(silent) else array for name, array in weights.items()}


def make_parrot(path: Path, token: int) -> Path:
    """A model that says one token for ever."""
    weights = without_layers(path)
    weights["model.embed_tokens.weight"] = mx.ones_like(weights["model.embed_tokens.weight"])
    weights["lm_head.weight"] = mx.zeros_like(weights["lm_head.weight"]).at[token].add(1.0)
    mx.save_safetensors(str(path / "model.safetensors"), weights)
    return path


def make_letter(path: Path, text: str) -> Path:
    """A model that says the letters of `text` by turns: each token's embedding points to its successor."""
    weights = without_layers(path)
    tokenizer = load_model(path, dtype=mx.float32, lazy=True).tokenizer
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in text]
    head = mx.zeros_like(weights["lm_head.weight"]).at[letters[0], 0].add(1.0)
    embedding = mx.zeros_like(head).at[:, 0].add(1.0)  # whatever comes before, the first letter follows
    for i, letter in enumerate(letters):
        embedding = embedding.at[letter, 0].add(-1.0).at[letter, i + 1].add(1.0)
        head = head.at[letters[(i + 1) % len(letters)], i + 1].add(1.0)
    weights |= {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    mx.save_safetensors(str(path / "model.safetensors"), weights)
    return path


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


def prompt_length(path: Path, text: str, **options) -> int:
    return len(load_model(path, dtype=mx.float32, lazy=True).tokenizer.encode(text, **options))


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


# ---- adapters ----


def test_adapters_change_the_answer_as_mlx_lm_has_it_and_leave_the_base_exact(client, chat, models):
    small = make_adapter(models / "small", chat, rank=2, keys=["self_attn.q_proj", "self_attn.v_proj"], seed=1)
    large = make_adapter(models / "large", chat, rank=8, seed=2)
    dora = make_adapter(models / "dora", chat, rank=4, seed=3, dora=True)
    base = client.ask(chat)["text"]
    texts = {"": base}
    for adapter in (small, large, dora, small):
        done = client.ask(chat, adapter_path=str(adapter))
        assert (done["text"], done["completion_tokens"]) == expected(chat, "Hi", 12, adapter)
        texts[adapter.name] = done["text"]
        assert client.ask(chat)["text"] == base
    assert len(set(texts.values())) == 4


def test_adapters_over_a_packed_base_that_stays_packed(tmp_path):
    """As on GPUs; and modules, not only numbers, are the base's own again without one."""
    path = make_tiny_model(tmp_path / "packed", quantized=True)
    adapter = make_adapter(tmp_path / "adapter", path)
    loaded = load_model(path, dtype=mx.bfloat16)
    tokens = mx.array([[1, 5, 9]])
    before, modules = loaded.model(tokens), dict(loaded.model.named_modules())
    adapters = Adapters(loaded.model)
    adapters.use(str(adapter))
    tuned = loaded.model(tokens)
    assert tuned.dtype == mx.bfloat16
    assert not mx.array_equal(tuned, before)
    adapters.use(None)
    assert dict(loaded.model.named_modules()) == modules
    assert mx.array_equal(loaded.model(tokens), before)


def test_an_adapter_that_was_written_anew_is_read_anew(client, chat, models):
    adapter = make_adapter(models / "changing", chat, seed=4)
    first = client.ask(chat, adapter_path=str(adapter))["text"]
    make_adapter(adapter, chat, seed=5)
    second = client.ask(chat, adapter_path=str(adapter))
    assert second["text"] == expected(chat, "Hi", 12, adapter)[0] != first


def test_adapters_that_do_not_fit_are_told_and_harm_nobody(client, chat, models):
    wide = make_tiny_model(models / "wide", hidden_size=96)
    good = make_adapter(models / "good", chat)
    before = client.ask(chat, adapter_path=str(good))["text"]
    for_wide = make_adapter(models / "for-wide", wide)
    kind, message = client.refused(chat, adapter_path=str(for_wide))
    assert kind == "invalid_model"
    assert message.startswith(f"{for_wide}: does not fit this base model: model.layers.")
    deep = make_adapter(models / "deep", make_tiny_model(models / "deep-base", num_hidden_layers=3))
    assert "has no place for model.layers.2." in client.refused(chat, adapter_path=str(deep))[1]
    assert "adapter_config.json is missing" in client.refused(chat, adapter_path=str(models / "nothing"))[1]
    config = good / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"fine_tune_type": "full"}))
    assert "name the folder as the model instead" in client.refused(chat, adapter_path=str(good))[1]
    config.write_text(json.dumps(content))
    weights = mx.load(str(good / "adapters.safetensors"))
    mx.eval(weights)  # before the file changes
    half = {name: array for name, array in weights.items() if not name.endswith("lora_b")}
    mx.save_safetensors(str(good / "adapters.safetensors"), half)
    assert "has lora_a where lora_a, lora_b are needed" in client.refused(chat, adapter_path=str(good))[1]
    (good / "adapters.safetensors").write_bytes(b"x" * 7)
    assert "cut short" in client.refused(chat, adapter_path=str(good))[1]
    mx.save_safetensors(str(good / "adapters.safetensors"), weights)
    assert client.ask(chat, adapter_path=str(good))["text"] == before


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


def test_the_last_two_bases_stay_while_memory_has_room(tmp_path):
    paths = [str(make_tiny_model(tmp_path / name)) for name in "abc"]
    loads = []
    bases = Bases(platform.setup(), lambda path, seconds: loads.append(path))
    a, b, c = paths
    for path in (a, b, a, b, c, b, a):
        assert bases.get(path).loaded.path == Path(path)
    assert loads == [a, b, c, a]
    bases._budget = 0
    for path in (c, b, b):
        bases.get(path)
    assert loads == [a, b, c, a, c, b]
    with pytest.raises(EngineError, match="no such folder"):
        bases.get(str(tmp_path / "none"))


# ---- sampling ----


def test_the_nucleus_holds_the_fewest_tokens_that_reach_top_p():
    logits = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
    drawn = sampler(1.0, 0.7, 0)
    assert {drawn(logits).item() for _ in range(200)} == {0, 1}
    cold = sampler(0.01, 0.99, 0)
    assert {cold(logits - 5000).item() for _ in range(20)} == {0}  # no underflow
    hot = sampler(1.0, 1.0, 0)
    counts = [0] * 4
    for _ in range(2000):
        counts[hot(logits).item()] += 1
    assert [round(count / 2000, 1) for count in counts] == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.101)


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
