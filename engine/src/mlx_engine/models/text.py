"""What a model's folder says of text, without its weights: tokenizer, chat template, end tokens, context window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import load_config, load_tokenizer

from mlx_engine.models import folder
from mlx_engine.process import error_kind, one_line
from mlx_engine.protocol import EngineError

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length")


class ModelText(Protocol):
    """Of a loaded model, or of one without its weights."""

    @property
    def tokenizer(self) -> TokenizerWrapper: ...
    @property
    def path(self) -> Path: ...
    @property
    def context_length(self) -> int | None: ...


@dataclass(frozen=True)
class Text:
    tokenizer: TokenizerWrapper
    path: Path
    context_length: int | None


def read_text(path: Path) -> Text:
    """Of a folder that need not hold weights. EngineError('invalid_model') with one line about what is wrong."""
    folder.check(path, weights=False)
    with invalid(path):
        config = load_config(path)
    return Text(load_text(path, config), path, context_length(config))


def load_text(path: Path, config: dict[str, Any]) -> TokenizerWrapper:
    """The tokenizer of a model folder, with the end tokens that its config names."""
    with invalid(path, "its tokenizer does not load: "):
        return load_tokenizer(
            path,
            {"trust_remote_code": False, "local_files_only": True},
            eos_token_ids=config.get("eos_token_id"),
        )


def context_length(config: dict[str, Any]) -> int | None:
    """Positions that the model was made for; None when its config does not say."""
    for part in (config, config.get("text_config") or {}):
        for key in _CONTEXT_KEYS:
            if isinstance(value := part.get(key), int) and value > 0:
                return value
    return None


class invalid:
    """Turns what a library raises about a model folder into EngineError; lack of memory stays what it is."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._prefix = f"{path}: {prefix}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, Exception) and error_kind(error) == "internal":
            text = one_line(error) or type(error).__name__
            if isinstance(error, KeyError | TypeError):
                text = f"config.json does not fit its model_type ({text})"
            raise EngineError("invalid_model", self._prefix + text) from error
