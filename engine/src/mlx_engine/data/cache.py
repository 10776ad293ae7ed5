"""Tokenised data sets, kept in a folder: a run that was interrupted, or is tried again with other parameters, starts at
once.

An entry is named by a hash of all that decides its content, the code of this package included. It is written under
another name, fsynced and renamed, so several processes may make the same one; one that is damaged or of another key is
made anew. Entries are used while they are removed, as an open file stays readable.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from mlx_engine.data.examples import Damaged
from mlx_engine.data.render import dated
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset
from mlx_engine.models import prompts, template

LIMIT_BYTES = 2 << 30
_SUFFIX = ".tokens"
_TEMPORARY = ".tmp"
_STALE_SECONDS = 24 * 3600
_WEIGHTS = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".npz", ".onnx", ".h5"}
_LIBRARIES = ("tokenizers", "transformers", "mlx-lm", "jinja2")


def key_of(rows_sha256: str, part: str, tokenizer: Any, model: Path, options: Options) -> str:
    """`part`: which of the rows. `model`: the folder that the tokenizer comes from."""
    shown = dated(tokenizer.chat_template, options.date).get("chat_template", tokenizer.chat_template)
    facts = {
        "code": _code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "rows": rows_sha256,
        "part": part,
        "tokenizer": _files_sha256(model),
        "template": shown,  # with the date written in
        "today": str(datetime.date.today()) if "strftime_now(" in str(shown) else None,
        "ends": sorted(tokenizer.eos_token_ids),
        "limit": [options.limit, options.limit_name],
        "loss_on": options.loss_on,
        "truncation": options.truncation,
    }
    return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()


def cached(folder: str | None, key: str, write: Callable[[BinaryIO], None], limit: int = LIMIT_BYTES) -> Dataset:
    """The entry `key` of the folder, which `write` makes when it is not there. Without a folder: of a temporary file.

    Removes what has not been used for longest when the folder's entries come to more than `limit` bytes.
    """
    if folder is None:
        with contextlib.ExitStack() as undo:
            file = undo.enter_context(tempfile.TemporaryFile())
            write(file)
            undo.pop_all()
            return Dataset(file)
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{key}{_SUFFIX}"
    return _load(path, key) or _make(path, write, limit)


def _load(path: Path, key: str) -> Dataset | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        data = Dataset(file)
        if data.key != key:
            raise Damaged("it belongs to another data set")
        os.utime(file.fileno())  # when it was last used
        return data
    except (Damaged, msgspec.MsgspecError) as error:
        print(f"{path} is made anew: {error}", file=sys.stderr)
        file.close()
        return None


def _make(path: Path, write: Callable[[BinaryIO], None], limit: int) -> Dataset:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=_TEMPORARY)
    file = os.fdopen(descriptor, "w+b")
    try:
        write(file)
        os.fsync(descriptor)
        os.replace(temporary, path)
        data = Dataset(file)
    except BaseException:
        file.close()
        Path(temporary).unlink(missing_ok=True)
        raise
    _evict(path, limit)
    return data


def _evict(made: Path, limit: int) -> None:
    """Never what was just made. Other processes may do the same at the same time."""
    entries = []
    for path in made.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = 0
    for used, size, path in sorted(entries, reverse=True):
        if path.suffix == _SUFFIX:
            total += size
            if total > limit and path != made:
                path.unlink(missing_ok=True)
        elif path.suffix == _TEMPORARY and used < time.time() - _STALE_SECONDS:
            path.unlink(missing_ok=True)  # of a process that was killed


def _code() -> str:
    """Hash of the code that makes entries: a number would be forgotten."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(prompts.__file__), Path(template.__file__)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files_sha256(model: Path) -> str:
    """Of all files of a model's folder that hold no weights: which of them a tokenizer reads is its own affair."""
    digest = hashlib.sha256()
    for path in sorted(model.iterdir()):
        if path.is_file() and path.suffix not in _WEIGHTS:
            with path.open("rb") as file:
                digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
