"""Several jobs in one process: each comes to the bits that it comes to alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import activations

from built_kernels import built
from harness import Frames, questions, row, train_command
from mlx_engine import blas, kernels, platform
from mlx_engine.data.batches import pack
from mlx_engine.data.load import load_data
from mlx_engine.process import Engine
from mlx_engine.training.compute import Compute
from mlx_engine.training.loss import arrays
from mlx_engine.training.method import prepare
from mlx_engine.training.packing import Packing
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run
from test_packing import WINDOW, examples, tiny
from tiny import make_tiny_model

_, KERNELS = built()
# Packed and padded, with and without a window, over plain and packed weights, with dropout, and with numbers of pieces
# of their own, by which the threads of BLAS and kernels are shared out.
JOBS: dict[str, dict[str, Any]] = {
    "packed": {"lora__dropout": 0.1},
    "windowed": {"seed": 8, "lora__rank": 2, "dataset__batch_size": 3, "optimizer": "muon"},
    "padded": {"seed": 9, "dataset__packing": False, "dataset__batch_size": 1},
    "qlora": {"method": "qlora", "lora__target_modules": ["q_proj", "v_proj", "down_proj"], "lora__dropout": 0.1},
}
STEPS = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    plain = make_tiny_model(folder / "plain")
    window = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}
    return {
        "packed": plain,
        "padded": plain,
        "windowed": make_tiny_model(folder / "windowed", seed=1, **window),
        "qlora": make_tiny_model(folder / "quantized", seed=2, quantized=True),
    }


def rows(name: str) -> list[dict[str, Any]]:
    if name == "padded":
        return [row(i, ("user", f"{i}?"), ("assistant", "yes " * (3 + 2 * i))) for i in range(4)]
    return questions(12)


class Job:
    """What trains, made as the engine makes it, with kernels in place from here to `close`; step by step, so that the
    steps of several can be taken in any order. The data are read on the main thread, whose timer bounds templates."""

    def __init__(self, name: str, folder: Path, model: Path) -> None:
        self._inside = ExitStack()
        self._inside.enter_context(kernels.patched(KERNELS))
        command = train_command(folder, model, rows(name), **JOBS[name])
        engine = Engine(Frames(lambda frame: None), platform.setup())
        subject = prepare(command, engine.platform)
        self._run = Run(command, engine, subject)
        self._data, _ = load_data(command.dataset, subject.loaded, self._run.date)
        self._plan = Plan(command, self._data)
        self._compute = Compute(command, subject, engine.platform, pin=self._run.pin)
        assert self._compute.packs == (name != "padded")
        subject.model.train()

    def step(self, number: int) -> tuple[float, dict[str, bytes], dict[str, bytes]]:
        """Loss, gradients and the adapter after the step."""
        computed = self._compute.step(number, self._data, self._plan.micro_batches(number), lambda: None)
        gradients = bits(dict(tree_flatten(computed.gradients)))
        self._run.update(computed.gradients, 1e-2)
        return computed.loss.item(), gradients, bits(self._run.subject.weights())

    def close(self) -> None:
        self._inside.close()


def bits(arrays: dict[str, mx.array]) -> dict[str, bytes]:
    return {name: np.array(array).tobytes() for name, array in arrays.items()}


def of_the_process() -> list[Any]:
    """What jobs have in common: functions that kernels replace, and numbers of threads."""
    ops = KERNELS.ops
    return [
        mx.fast.scaled_dot_product_attention,
        mx.fast.rms_norm,
        mx.fast.rope,
        mx.quantized_matmul,
        activations.swiglu,
        nn.Linear.__call__,
        ops and ops.threads,
        blas._mkl and blas._mkl.MKL_Get_Max_Threads(),
    ]


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory) -> dict[str, list]:
    """Of each job, what its steps come to."""
    found = {}
    for name, model in models.items():
        job = Job(name, tmp_path_factory.mktemp(name), model)
        found[name] = [job.step(number) for number in range(STEPS)]
        job.close()
        losses = [loss for loss, *_ in found[name]]
        assert len(set(losses)) == STEPS
        assert np.isfinite(losses).all()
    return found


def in_turn(jobs: dict[str, Job], number: int) -> list:
    return [job.step(number) for job in jobs.values()]


def on_threads_of_their_own(jobs: dict[str, Job], number: int) -> list:
    together = threading.Barrier(len(jobs))

    def step(job: Job) -> tuple:
        together.wait()
        return job.step(number)

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(step, jobs.values()))


@pytest.mark.parametrize("take", [in_turn, on_threads_of_their_own])
def test_each_job_computes_what_it_computes_alone(tmp_path, models, alone, take):
    before = of_the_process()
    jobs = {name: Job(name, tmp_path / name, model) for name, model in models.items()}
    for number in range(STEPS):
        for name, found in zip(jobs, take(jobs, number), strict=True):
            assert found == alone[name][number], (name, number)
    for job in jobs.values():  # in the order in which they came
        assert of_the_process() != before or not KERNELS.active
        job.close()
    assert of_the_process() == before


def test_what_is_packed_differently_may_be_computed_in_any_order(tmp_path):
    """All masks are made before a graph is, and all graphs before one is computed, the last one first."""
    with kernels.patched(KERNELS):
        losses = [tiny(tmp_path / "plain"), tiny(tmp_path / "windowed", **WINDOW)]
        pieces = [
            (loss, Packing(loss, dense=False), pack(examples(*lengths), 0, 1))
            for lengths in ((40, 3, 17, 2), (9, 9, 9, 35), (62,))
            for loss in losses
        ]

        def graphs() -> Iterator[dict[str, mx.array]]:
            made = [(loss, packing.caches(batch.segments), batch) for loss, packing, batch in pieces]
            for loss, caches, batch in made:

                def run(parameters: dict, loss=loss, caches=caches, batch=batch) -> mx.array:
                    loss.model.update(parameters)
                    return loss(*arrays(batch), caches)

                parameters = loss.model.trainable_parameters()
                value, gradients = mx.value_and_grad(run)(parameters)
                loss.model.update(parameters)
                yield {"loss": value} | dict(tree_flatten(gradients))

        alone = [bits(each) for each in graphs()]
        together = list(graphs())
        found = [bits(each) for each in reversed(together)]
    assert found == alone[::-1]
    assert len({each["loss"] for each in alone}) == len(pieces)
