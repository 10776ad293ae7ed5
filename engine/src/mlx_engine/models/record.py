"""What a result says of how it was trained, for generation to go by.

It stands in adapter_config.json beside mlx-lm's own keys, or in training.json of a fully fine-tuned model's folder, so
that the result can be carried elsewhere. An adapter from elsewhere says nothing, and nothing of it is checked.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from mlx_engine.models.folder import TOKENIZER_FILES, invalid, read_json

ADAPTER_FILE = "adapter_config.json"
MODEL_FILE = "training.json"
TEMPLATE_FILE = "chat_template.jinja"  # an adapter's copy of the template that it was trained with


class StopToken(msgspec.Struct):
    id: int
    text: str


class ServingVerified(msgspec.Struct, kw_only=True):
    """What was seen when the result was loaded as for generation; the fields of the verified frame, and on what."""

    ok: bool
    message: str
    logit_difference: float | None = None
    serving_loss: float | None = None
    trainer_loss: float | None = None
    rows: int = 0
    trained_tokens: int = 0


class Record(msgspec.Struct, kw_only=True):
    prompt_format: str | None = None  # "chat_template", or the plain text of prompts.py; None: not one of ours
    chat_template_sha256: str | None = None
    tokenizer_sha256: str | None = None
    base_quantize_bits: int | None = None  # QLoRA over an unpacked base, which was packed when it was loaded
    stop_tokens: list[StopToken] = []  # what the trained rows end with
    system_prompt: str | None = None  # that all trained rows begin with
    serving_verified: ServingVerified | None = None


def read(folder: Path) -> Record:
    """Of an adapter or of a model folder. EngineError('invalid_model') when it is malformed."""
    for name in (ADAPTER_FILE, MODEL_FILE):
        if (folder / name).is_file():
            try:
                return msgspec.convert(read_json(folder / name), Record)
            except msgspec.ValidationError as error:
                raise invalid(folder / name, str(error)) from error
    return Record()


def template_sha256(template: Any) -> str | None:
    """Of a tokenizer's `chat_template`; None for one without."""
    return None if template is None else hashlib.sha256(json.dumps(template).encode()).hexdigest()


def tokenizer_sha256(folder: Path) -> str | None:
    """Of what decides which tokens a text becomes: not of the layout of the file, nor of settings for batches."""
    file = folder / "tokenizer.json"
    if file.is_file():
        content = {name: part for name, part in read_json(file).items() if name not in ("truncation", "padding")}
        return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()
    files = [folder / name for name in (*TOKENIZER_FILES, "merges.txt") if (folder / name).is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest() if files else None
