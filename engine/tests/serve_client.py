"""Asks the serve process, and says independently what it should answer."""

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from engine_process import EngineProcess
from mlx_engine.models.load import load_model
from mlx_engine.protocol import ChatMessage
from mlx_engine.serving.chat import chat_prompt, end_tokens
from tiny import make_tiny_model

ALL = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"]


def make_adapter(
    path: Path, base: Path, *, rank: int = 4, keys: list[str] = ALL, seed: int = 1, dora=False, size: float = 0.3
) -> Path:
    """As mlx-lm writes them, with random matrices large enough to change every answer: normal ones times `size`."""
    loaded = load_model(base, dtype=mx.float32)
    loaded.model.freeze()
    config = {"rank": rank, "scale": 8.0, "dropout": 0.1, "keys": keys}
    linear_to_lora_layers(loaded.model, len(loaded.model.layers), config, use_dora=dora)
    key = mx.random.key(seed)
    weights = {}
    for name, array in tree_flatten(loaded.model.trainable_parameters()):
        key, now = mx.random.split(key)
        weights[name] = array if name.endswith(".m") else size * mx.random.normal(array.shape, key=now)
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


def said(done: dict) -> dict:
    """What of a done frame doesn't depend on when it was asked and on what came before."""
    return {name: value for name, value in done.items() if name not in ("id", "timing", "cached_tokens")}


def expected(model_path: Path, text: str, limit: int, adapter: Path | None = None) -> tuple[str, int]:
    """Text and number of tokens that mlx-lm's own loading of base and adapter gives."""
    loaded = load_model(model_path, dtype=mx.float32, adapter_path=adapter)
    prompt = chat_prompt(loaded.tokenizer, [ChatMessage(role="user", content=text)]).tokens(loaded.tokenizer)
    tokens = greedy(loaded.model, prompt, end_tokens(loaded.tokenizer), limit)
    return loaded.tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)


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


def prompt_length(path: Path, text: str, **options) -> int:
    return len(load_model(path, dtype=mx.float32, lazy=True).tokenizer.encode(text, **options))
