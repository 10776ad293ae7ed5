"""Writes down with a result how it was trained, for generation to go by: see models/record.py."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from mlx_engine.data.tokenize import Dataset
from mlx_engine.models import record
from mlx_engine.models.record import ServingVerified, StopToken, template_sha256, tokenizer_sha256
from mlx_engine.protocol import Train
from mlx_engine.training.checkpoint import temporary_for
from mlx_engine.training.lease import UNSUPERVISED, Lease
from mlx_engine.training.method import Subject
from mlx_engine.training.tensors import sync, write_bytes

_ROWS_LOOKED_AT = 10_000  # for their last tokens


def describe(command: Train, subject: Subject, data: Dataset) -> list[StopToken]:
    """Adds to the files of every checkpoint from now on, and so of the result. Returns the stop tokens."""
    loaded, base = subject.loaded, Path(command.model_path)
    template = loaded.tokenizer.chat_template
    stops = stop_tokens(data, loaded.tokenizer)
    name = record.MODEL_FILE if command.method == "full" else record.ADAPTER_FILE
    said = json.loads(subject.files[name]) if name in subject.files else {}
    said |= {
        "model": command.model_name,
        "experiment_name": command.experiment_name,
        "method": command.method,
        "prompt_format": "chat_template" if loaded.tokenizer.has_chat_template else command.dataset.format,
        "chat_template_sha256": template_sha256(template),
        "tokenizer_sha256": tokenizer_sha256(base),
        "base_quantize_bits": _quantized_at_load(base, loaded.config),
        "stop_tokens": msgspec.to_builtins(stops),
        "system_prompt": system_prompt(Path(command.dataset.path)),
        "dataset_sha256": command.dataset.sha256,
        "max_seq_length": command.dataset.max_seq_length,
        "seed": command.seed,
    }
    subject.files[name] = _json(said)
    if command.method != "full" and isinstance(template, str):
        subject.files[record.TEMPLATE_FILE] = template.encode()
    return stops


def store(output: Path, verified: ServingVerified, lease: Lease = UNSUPERVISED) -> None:
    """Adds to the published result what was seen of it, in one move: its checkpoint, linked to the same file, stays."""
    name = record.ADAPTER_FILE if (output / record.ADAPTER_FILE).is_file() else record.MODEL_FILE
    said = json.loads((output / name).read_bytes()) | {"serving_verified": msgspec.to_builtins(verified)}
    temporary = temporary_for(output / name)
    temporary.unlink(missing_ok=True)
    write_bytes(temporary, _json(said))
    with lease.held():
        os.replace(temporary, output / name)
    sync(output)


def stop_tokens(data: Dataset, tokenizer: Any) -> list[StopToken]:
    """The end tokens that rows end with, the most frequent first. Cut rows may end without one."""
    ends = {id: token.content for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends |= {id: tokenizer.convert_ids_to_tokens(id) for id in tokenizer.eos_token_ids}
    found: Counter[int] = Counter()
    for example in islice(data.examples, _ROWS_LOOKED_AT):
        # A template's newline may follow, where all of a text is learned.
        last = [int(token) for token in example.tokens[-2:] if int(token) in ends]
        found.update(last[-1:])
    return [StopToken(id, ends[id]) for id, _ in found.most_common()]


class _Turn(msgspec.Struct):
    role: str
    content: str


class _Row(msgspec.Struct):
    messages: list[_Turn]


def system_prompt(snapshot: Path) -> str | None:
    """What every row of a data set begins with as its system turn; None unless all begin with the same."""
    decoder = msgspec.json.Decoder(_Row)
    shared = None
    with snapshot.open("rb") as lines:
        for line in lines:
            first = decoder.decode(line).messages[:1]
            if not first or first[0].role != "system" or shared not in (None, first[0].content):
                return None
            shared = first[0].content
    return shared


def _quantized_at_load(base: Path, loaded: dict[str, Any]) -> int | None:
    """Bits of QLoRA over a base whose own weights are not packed."""
    own = json.loads((base / "config.json").read_bytes())
    return loaded["quantization"]["bits"] if "quantization" in loaded and "quantization" not in own else None


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
