"""Checkpoints: everything that a run needs to go on as if it had never been interrupted, bit for bit.

    output_dir/checkpoints/step-00000200/
        adapters.safetensors, adapter_config.json    or a whole model folder, for full fine-tuning
        optimizer.safetensors
        state.json                                   Manifest; its hashes cover every other file and itself

A checkpoint is written to a temporary folder, fsynced, renamed and the rename fsynced, so that a folder with the final
name is complete; a damaged one is told by its hashes and passed over. Random numbers need no state: order and dropout
are functions of the seed and the position in the run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from mlx_engine.failpoints import failpoint
from mlx_engine.training.lease import UNSUPERVISED, Lease
from mlx_engine.training.tensors import sync, write_bytes, write_safetensors
from mlx_engine.training.validation import Validation

FORMAT = 3
_UNSEALED = 2  # a format without the seal
KEPT = 2  # of the newest
MANIFEST = "state.json"
OPTIMIZER = "optimizer.safetensors"
_NAME = re.compile(r"step-(\d{8,})")


class Progress(msgspec.Struct):
    """How far a run is. Epoch, place in it, learning rate and random numbers follow from `step` and the parameters."""

    step: int = 0  # optimiser steps done, skipped ones included
    processed_samples: int = 0
    loss: float | None = None  # of the last step that had one
    first_loss: float | None = None  # of step 0, which is the base's
    non_finite: int = 0  # skipped steps in a row, up to now
    loss_sum: float = 0.0  # exponentially decayed, with `loss_weight` its decayed count
    loss_weight: float = 0.0
    validation: Validation = msgspec.field(default_factory=Validation)
    sampled_step: int = -1  # of the last answers to sample_prompts
    base_answers: list[str] = []  # to sample_prompts
    anchor: int = 0  # the step that a recovery would take the run back to
    rate_halvings: list[int] = []  # the steps from which on the learning rate is half of what it would be: recoveries

    @property
    def smoothed_loss(self) -> float | None:
        return self.loss_sum / self.loss_weight if self.loss_weight else None

    def rate_scale(self, step: int) -> float:
        """What the schedule's learning rate of step number `step`, from 0, is multiplied by."""
        return 0.5 ** sum(at <= step for at in self.rate_halvings)

    def add(self, loss: float, decay: float) -> None:
        """Takes in the loss of a finite step."""
        if self.step == 1:
            self.first_loss = loss
        self.loss, self.non_finite = loss, 0
        self.loss_sum = decay * self.loss_sum + (1 - decay) * loss
        self.loss_weight = decay * self.loss_weight + (1 - decay)


class FileFacts(msgspec.Struct):
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, kw_only=True):
    format: int = FORMAT
    progress: Progress
    date: str  # what templates that show a date were given
    config: dict[str, Any]  # all that was asked for and decides the numbers: parameters, data, base model
    pinned: dict[str, Any] = {}  # what the engine chose and decides them, in their last bits
    versions: dict[str, str]  # of the libraries; bit identity is promised for equal ones only
    files: dict[str, FileFacts] = {}
    told: list[str] = []  # the last frames of steps and what was between them, as JSON
    seal: str = ""  # SHA-256 of the manifest without it


class Damaged(Exception):
    """A checkpoint that is not what was written; says why."""


def save(
    root: Path,
    manifest: Manifest,
    tensors: Mapping[str, Mapping[str, mx.array]],
    files: Mapping[str, bytes],
    lease: Lease = UNSUPERVISED,
) -> Path:
    """Writes checkpoints/step-N under `root` from evaluated arrays and other files by name. Returns its folder.

    OSError when the disk is full, with nothing left of it and the older ones intact.
    """
    folder = folder_of(root, manifest.progress.step)
    temporary = temporary_for(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        facts = {name: write_safetensors(temporary / name, arrays) for name, arrays in tensors.items()}
        facts |= {name: write_bytes(temporary / name, data) for name, data in files.items()}
        manifest.files = {
            name: FileFacts(bytes=(temporary / name).stat().st_size, sha256=sha256) for name, sha256 in facts.items()
        }
        write_bytes(temporary / MANIFEST, _json(manifest))
        sync(temporary)
        failpoint("checkpoint.written")
        with lease.held():
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    failpoint("checkpoint.renamed")
    sync(root)
    failpoint("checkpoint.saved")
    return folder


def update(
    folder: Path, progress: Progress, pinned: dict[str, Any], told: list[str], lease: Lease = UNSUPERVISED
) -> None:
    """Replaces these in a good checkpoint's manifest: more has become known at the same step."""
    manifest = _read(folder)
    manifest.progress, manifest.pinned, manifest.told = progress, pinned, told
    temporary = temporary_for(folder / MANIFEST)
    temporary.unlink(missing_ok=True)
    write_bytes(temporary, _json(manifest))
    with lease.held():
        os.replace(temporary, folder / MANIFEST)
    failpoint("manifest.replaced")
    sync(folder)


def prune(root: Path, progress: Progress, lease: Lease = UNSUPERVISED) -> None:
    """Removes all but the newest, the best, and the one that a recovery would begin at with what was the best then."""
    found = steps(root)
    kept = {progress.validation.best_step, *map(step_of, found[:KEPT])}
    start = next((folder for folder in found if step_of(folder) <= progress.anchor), None)
    if start is not None:
        kept |= {step_of(start), best_step(start)}
    for folder in found:
        if step_of(folder) not in kept:
            with lease.held():
                shutil.rmtree(folder, ignore_errors=True)
            failpoint("checkpoint.pruned")


def best_step(folder: Path) -> int | None:
    """Of the lowest validation loss that was known in this checkpoint. None: none was, or it can't be read."""
    try:
        return _read(folder).progress.validation.best_step
    except Damaged:
        return None


def steps(root: Path) -> list[Path]:
    """Checkpoint folders under `root`, newest first, good or not."""
    found = [path for path in root.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def verify(folder: Path) -> Manifest:
    """The manifest, once every file is what it says. Raises Damaged."""
    manifest = _read(folder)
    if manifest.format not in (FORMAT, _UNSEALED):
        raise Damaged(f"its format is {manifest.format}, this engine reads {FORMAT}")
    if (manifest.format == FORMAT or manifest.seal) and manifest.seal != _seal(manifest):
        raise Damaged(f"{MANIFEST} has changed since it was written")
    if manifest.progress.step != step_of(folder):
        raise Damaged(f"{MANIFEST} is of step {manifest.progress.step}")
    for name, facts in manifest.files.items():
        try:
            with open(folder / name, "rb") as file:
                if os.fstat(file.fileno()).st_size != facts.bytes:
                    raise Damaged(f"{name} is not {facts.bytes} bytes long")
                if hashlib.file_digest(file, "sha256").hexdigest() != facts.sha256:
                    raise Damaged(f"{name} has changed since it was written")
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from error
    return manifest


def publish(folder: Path, output: Path, lease: Lease = UNSUPERVISED) -> None:
    """Puts a checkpoint's model files into `output`, each by rename: the run's result. Large files are hard links."""
    for name in sorted(_read(folder).files):
        if name == OPTIMIZER:
            continue
        source = folder / name
        temporary = temporary_for(output / name)
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        failpoint("result.written")
        with lease.held():
            os.replace(temporary, output / name)
        temporary.unlink(missing_ok=True)  # a rename between links to one file does nothing: it was published before
        failpoint("result.renamed")
    sync(output)
    failpoint("result.published")


def _read(folder: Path) -> Manifest:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Damaged(f"{MANIFEST}: {error}") from error


def _json(manifest: Manifest) -> bytes:
    manifest.format, manifest.seal = FORMAT, _seal(manifest)
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, seal=""))).hexdigest()


def temporary_for(path: Path) -> Path:
    """Beside `path`, to be renamed to it: each process its own, so that one of an earlier attempt disturbs none."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(output: Path, root: Path, lease: Lease = UNSUPERVISED) -> None:
    """Removes what interrupted writes have left in a run's folder, its checkpoints' root and those."""
    with lease.held():
        for path in [path for folder in (output, root, *steps(root)) for path in folder.glob(".*.tmp")]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def clear(root: Path, lease: Lease = UNSUPERVISED) -> None:
    """Removes the checkpoints of an earlier run."""
    with lease.held():
        for folder in steps(root):
            shutil.rmtree(folder, ignore_errors=True)
