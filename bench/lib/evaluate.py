"""The one judge of all peers: tokens of the rows, and held-out loss of the base with each adapter.

Prints a JSON object: counts by file, losses by adapter. Plain mlx-lm models in float32, full logits and MLX's
cross-entropy: nothing of any trainer. Loss is on the answer's tokens and its end token, as in training; tokens after
that are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from mlx_engine import platform

platform.setup()

import mlx.core as mx  # noqa: E402  after the BLAS
import mlx.nn as nn  # noqa: E402

from mlx_engine.models.load import load_model, load_text  # noqa: E402


def read(path: str, tokenizer: Any, limit: int) -> list[tuple[list[int], int]]:
    """(tokens, length of the prompt) of each row."""
    rows = []
    for line in Path(path).read_text("utf-8").splitlines():
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        tokens = tokenizer.apply_chat_template(messages, return_dict=False)
        end = len(tokens) - tokens[::-1].index(tokenizer.eos_token_id)
        rows.append((tokens[:end][:limit], len(prompt)))
    return [row for row in rows if row[1] < len(row[0])]


def counts(rows: list[tuple[list[int], int]]) -> dict[str, int]:
    return {
        "rows": len(rows),
        "tokens": sum(len(tokens) for tokens, _ in rows),
        "trained_tokens": sum(len(tokens) - prompt for tokens, prompt in rows),
        "longest": max(len(tokens) for tokens, _ in rows),
    }


def loss(base: Path, adapter: Path | None, rows: list[tuple[list[int], int]]) -> float:
    model = load_model(base, dtype=mx.float32, adapter_path=adapter).model
    total, trained = 0.0, 0
    for tokens, prompt in rows:
        logits = model(mx.array([tokens[:-1]]))[0, prompt - 1 :]
        total += nn.losses.cross_entropy(logits, mx.array(tokens[prompt:]), reduction="sum").item()
        trained += len(tokens) - prompt
    return total / trained


def from_peft(folder: Path, output: Path) -> Path:
    """PEFT's adapter in mlx-lm's format: lora_A (r, in) and lora_B (out, r) transposed, scale = alpha / r."""
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    arrays = {}
    for name, array in mx.load(str(folder / "adapter_model.safetensors")).items():
        module, leaf = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        arrays[f"{module}.{leaf.lower()}"] = array.astype(mx.float32).T
    keys = sorted({".".join(name.split(".")[3:-1]) for name in arrays})
    layers = 1 + max(int(name.split(".")[2]) for name in arrays)
    parameters = {
        "rank": config["r"],
        "scale": config["lora_alpha"] / config["r"],
        "dropout": 0.0,
        "keys": keys,
    }
    output.mkdir(parents=True)
    mx.save_safetensors(str(output / "adapters.safetensors"), arrays)
    converted = {
        "fine_tune_type": "lora",
        "num_layers": layers,
        "lora_parameters": parameters,
    }
    (output / "adapter_config.json").write_text(json.dumps(converted))
    return output


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--max-seq-length", type=int, required=True)
    parser.add_argument("--count", nargs="*", default=[], help="JSONL files of rows")
    parser.add_argument("--held-out", help="JSONL file of rows: the losses on it of the base and of each adapter")
    parser.add_argument("--adapters", nargs="*", default=[], help="mlx:FOLDER or peft:FOLDER")
    args = parser.parse_args()
    config = json.loads((args.base / "config.json").read_text("utf-8"))
    tokenizer = load_text(args.base, config)
    found: dict[str, Any] = {path: counts(read(path, tokenizer, args.max_seq_length)) for path in args.count}
    if args.held_out:
        rows = read(args.held_out, tokenizer, args.max_seq_length)
        found["base"] = loss(args.base, None, rows)
        with tempfile.TemporaryDirectory() as scratch:
            for i, adapter in enumerate(args.adapters):
                kind, path = adapter.split(":", 1)
                folder = Path(path) if kind == "mlx" else from_peft(Path(path), Path(scratch, str(i)))
                found[path] = loss(args.base, folder, rows)
    print(json.dumps(found))


main()
