from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_engine.process import error_kind
from mlx_engine.training import checkpoint
from mlx_engine.training.checkpoint import Damaged, Manifest, Progress
from mlx_engine.training.tensors import write_safetensors
from mlx_engine.training.validation import Validation


def save(root: Path, step: int) -> Path:
    arrays = {"b": mx.arange(12, dtype=mx.float32).reshape(3, 4) + step, "a": mx.array(step, dtype=mx.uint64)}
    mx.eval(arrays)
    manifest = Manifest(progress=Progress(step=step), date="2026-01-02", config={"seed": 1}, versions={"mlx": "1"})
    return checkpoint.save(
        root,
        manifest,
        {"adapters.safetensors": arrays, checkpoint.OPTIMIZER: {"m": mx.zeros(3)}},
        {"adapter_config.json": b"{}"},
    )


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    assert folder.name == "step-00000003"
    manifest = checkpoint.verify(folder)
    assert manifest.progress.step == 3
    assert set(manifest.files) == {"adapters.safetensors", "optimizer.safetensors", "adapter_config.json"}
    loaded = mx.load(str(folder / "adapters.safetensors"))
    assert loaded["a"].item() == 3
    assert loaded["b"].tolist() == (np.arange(12).reshape(3, 4) + 3.0).tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


@pytest.mark.parametrize(
    ("best", "anchor", "kept"),
    [
        (None, 0, [100, 20]),
        (20, 0, [100, 20]),
        (3, 0, [100, 20, 3]),
        (None, 50, [100, 20, 2]),  # 2 was the best at 20
        (None, 19, [100, 20, 3, 1]),  # and 1 at 3
        (3, 2, [100, 20, 3, 2]),
    ],
)
def test_the_newest_the_best_and_what_a_recovery_needs_stay(
    tmp_path: Path, best: int | None, anchor: int, kept: list[int]
) -> None:
    for step, best_then in ((1, None), (2, None), (3, 1), (20, 2), (100, 3)):
        folder = save(tmp_path, step)
        checkpoint.update(folder, Progress(step=step, validation=Validation(best_step=best_then)), {}, [])
    checkpoint.prune(tmp_path, Progress(anchor=anchor, validation=Validation(best_step=best)))
    assert [checkpoint.step_of(path) for path in checkpoint.steps(tmp_path)] == kept


def test_progress_is_replaced_in_a_checkpoint(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    checkpoint.update(folder, Progress(step=3, sampled_step=3), {"lanes": 2}, [])
    manifest = checkpoint.verify(folder)
    assert (manifest.progress.sampled_step, manifest.pinned) == (3, {"lanes": 2})
    assert len(list(folder.iterdir())) == 4


def flip(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_manifest(folder: Path, **values: object) -> None:
    path = folder / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


FILES = ["adapters.safetensors", "optimizer.safetensors", "adapter_config.json", "state.json"]
damages = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(b"")),
    st.tuples(st.just("zeros from"), st.floats(0, 1, exclude_max=True), st.just(b"")),
    st.tuples(st.just("replaced"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("inserted"), st.floats(0, 1), st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("gone"), st.just(0.0), st.just(b"")),
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(FILES), damage=damages)
def test_a_file_torn_or_changed_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: tuple[str, float, bytes]
) -> None:
    """Or says exactly the same: space in JSON."""
    root = tmp_path_factory.mktemp("torn")
    path = save(root, 3) / name
    written = checkpoint.verify(path.parent)
    kind, place, piece = damage
    data = path.read_bytes()
    at = int(place * len(data))
    changed = {
        "cut": data[:at],
        "zeros from": data[:at] + bytes(len(data) - at),
        "replaced": data[:at] + piece + data[at + len(piece) :],
        "inserted": data[:at] + piece + data[at:],
        "gone": None,
    }[kind]
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    try:
        found = checkpoint.verify(path.parent)
    except Damaged:
        return
    assert changed == data or (name == "state.json" and found == written)


def test_a_checkpoint_of_the_format_before_has_no_seal(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    change_manifest(folder, format=2, seal="")
    assert checkpoint.verify(folder).progress.step == 3


DAMAGE = {
    "a number": lambda folder: change_manifest(folder, date="2026-01-03"),
    "no seal": lambda folder: change_manifest(folder, seal=""),
    "flipped bit": flip,
    "cut short": lambda folder: os.truncate(folder / "adapters.safetensors", 10),
    "file gone": lambda folder: (folder / "adapter_config.json").unlink(),
    "no manifest": lambda folder: (folder / "state.json").unlink(),
    "torn manifest": lambda folder: os.truncate(folder / "state.json", 30),
    "other format": lambda folder: change_manifest(folder, format=99),
    "other step": lambda folder: folder.rename(folder.with_name("step-00000009")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 3)
    DAMAGE[damage](checkpoint.steps(tmp_path)[0])
    with pytest.raises(Damaged):
        checkpoint.verify(checkpoint.steps(tmp_path)[0])


def test_any_failing_write_leaves_the_older_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up at the first, second, … fsync of a save, until a save gets through."""
    save(tmp_path, 1)
    fsync = os.fsync
    for allowed in range(20):
        left = allowed

        def failing(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", failing)
        failure = None
        try:
            save(tmp_path, 2)
        except OSError as error:
            failure = error
        monkeypatch.undo()
        if failure is None:
            break
        assert error_kind(failure) == "disk_full"
        whole = [path for path in checkpoint.steps(tmp_path) if checkpoint.verify(path)]
        assert whole[-1].name == "step-00000001"
        assert not list(tmp_path.glob(".step-*"))
    assert allowed == 6  # three files, the manifest, the folder, its parent


def test_the_result_is_the_checkpoint_without_its_state(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 3)
    (tmp_path / "adapters.safetensors").write_text("of an earlier run")
    for _ in ("first", "again, after a kill"):
        checkpoint.publish(folder, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "adapters.safetensors", "adapter_config.json"}
    assert (tmp_path / "adapters.safetensors").read_bytes() == (folder / "adapters.safetensors").read_bytes()


def test_clearing_touches_checkpoints_alone(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "notes").mkdir()
    checkpoint.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_sweeping_touches_what_was_left_half_written_alone(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    folder = save(root, 3)
    whole = sorted(path for path in tmp_path.rglob("*"))
    (root / ".step-00000004.17.tmp").mkdir()
    (root / ".step-00000004.17.tmp" / "optimizer.safetensors").touch()
    (folder / ".state.json.17.tmp").touch()
    (tmp_path / ".adapters.safetensors.17.tmp").touch()
    checkpoint.sweep(tmp_path, root)
    assert sorted(path for path in tmp_path.rglob("*")) == whole


def test_the_reference_library_reads_our_safetensors(tmp_path: Path) -> None:
    arrays = {
        "matrix": mx.arange(6, dtype=mx.float32).reshape(2, 3),
        "transposed": mx.arange(6, dtype=mx.float32).reshape(2, 3).T,
        "step": mx.array(7, dtype=mx.uint64),
        "odd": mx.array([1, 2, 3], dtype=mx.uint8),
        "none": mx.zeros((0, 4)),
    }
    mx.eval(arrays)
    write_safetensors(tmp_path / "x.safetensors", arrays)
    found = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name], np.array(array))
    half = {"half": mx.array([1.5, -2.0], dtype=mx.bfloat16)}
    write_safetensors(tmp_path / "half.safetensors", half)
    assert mx.array_equal(mx.load(str(tmp_path / "half.safetensors"))["half"], half["half"])
