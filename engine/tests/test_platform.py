import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from engine_process import EngineProcess
from mlx_engine import blas, platform
from mlx_engine.deadline import DeadlineExceeded, deadline
from mlx_engine.process import error_frame, error_kind
from mlx_engine.protocol import EngineError

SOURCES = str(Path(__file__).parents[1] / "src")


def in_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


# ---- device and BLAS ----


def test_setup_names_device_back_end_and_type():
    found = platform.setup()
    assert found.gflops is None
    assert found.mlx_version.count(".") >= 2
    assert (found.device, found.dtype_name) == ("cpu", "float32") or found.dtype_name == "bfloat16"
    assert found.backend.startswith(("MKL 20", "reference BLAS: ", "Accelerate", "Metal", "CUDA"))
    assert platform.memory_mb() > 10


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="MKL is for x86 Linux")
def test_mkl_computes_when_it_is_installed_and_the_reason_is_told_when_not():
    measure = "from mlx_engine import platform; p = platform.setup(measure=True); print(p.gflops, p.backend, sep='|')"
    fast, backend = in_python(measure).split("|")
    assert backend.startswith("MKL 20")
    assert f"(preloaded, {float(fast):.0f} GFLOP/s)" in backend
    slow, backend = in_python("import sys; sys.prefix = '/nowhere'; " + measure).split("|")
    assert backend.startswith(f"reference BLAS: mkl is not installed ({float(slow):.0f} GFLOP/s)")
    assert float(fast) > 4 * float(slow) > 0
    late = in_python("import mlx.core; from mlx_engine import blas; print(blas.preload())")
    assert late.startswith("reference BLAS: mlx was imported before mlx_engine")


def test_preload_looks_once():
    assert blas.preload() is blas.preload()


def test_half_precision_only_off_the_cpu():
    cpu = platform.Platform("cpu", "", mx.float32, None, None, "", "")
    gpu = platform.Platform("metal: M3", "", mx.bfloat16, None, None, "", "")
    for config in ({"torch_dtype": "float16"}, {"text_config": {"dtype": "float16"}}):
        assert cpu.dtype_for(config) == mx.float32
        assert gpu.dtype_for(config) == mx.float16
    assert gpu.dtype_for({"torch_dtype": "bfloat16"}) == gpu.dtype_for({}) == mx.bfloat16


# ---- errors ----


def test_errors_get_the_kind_that_the_user_can_act_on():
    with pytest.raises(OSError, match="No space") as full, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert error_kind(full.value) == "disk_full"
    assert error_kind(OSError(errno.EDQUOT, "quota")) == "disk_full"
    assert error_kind(MemoryError()) == "out_of_memory"
    for message in (  # of MLX's allocators
        "[metal::malloc] Attempting to allocate 68719476736 bytes which is greater than the maximum allowed buffer",
        "cudaMallocAsync(&data, size, stream) failed: out of memory",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008)",
    ):
        assert error_kind(RuntimeError(message)) == "out_of_memory"
    assert error_kind(RuntimeError("[matmul] shapes do not fit")) == "internal"
    assert error_kind(EngineError("non_finite", "x")) == "non_finite"
    assert error_kind(FileNotFoundError("x")) == "internal"


def test_an_error_frame_holds_one_line_and_a_traceback_for_surprises_only():
    frame = error_frame(ValueError("two\nlines"), "g1")
    assert (frame.id, frame.kind, frame.message) == ("g1", "internal", "ValueError: two lines")
    assert "ValueError" in frame.traceback
    assert error_frame(EngineError("invalid_model", "no config.json")).traceback is None


@pytest.mark.parametrize("work", [lambda: [None for _ in iter(int, 1)], lambda: 7 ** (7**10)], ids=["loop", "power"])
def test_a_deadline_ends_python_loops_and_long_arithmetic(work):
    with pytest.raises(DeadlineExceeded, match=r"the work took longer than 0\.05 s"), deadline(0.05, "the work"):
        work()


def test_a_deadline_that_is_kept_leaves_no_timer():
    with deadline(30, "nothing"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# ---- processes ----


def test_probe_says_hello_with_a_measured_figure_and_ends():
    with EngineProcess("-m", "mlx_engine.probe") as process:
        (hello,) = process.frames()
        assert process.wait() == 0
    assert hello["type"] == "hello"
    assert (hello["protocol"], hello["pid"]) == (1, process.pid)
    assert hello["gflops"] > 0


WAITING = "from mlx_engine.process import run; run(lambda engine: engine.commands.get())"


def test_eof_on_stdin_ends_a_process_that_computes():
    busy = "import time\nfrom mlx_engine.process import run\nrun(lambda engine: [None for _ in iter(int, 1)])"
    with EngineProcess("-c", busy) as process:
        process.until("hello")
        process.close_stdin()
        assert process.wait() == 0


def test_ctrl_c_is_left_to_the_server():
    with EngineProcess("-c", WAITING) as process:
        process.until("hello")
        process.interrupt(signal.SIGINT)
        process.send("stop")
        assert process.wait() == 0
        assert process.log == ""


def test_heartbeats_come_while_the_main_thread_is_busy():
    busy = "from mlx_engine.process import run\nrun(lambda engine: [None for _ in iter(engine.commands.empty, False)])"
    with EngineProcess("-c", busy) as process:
        process.until("hello")
        while process.alive_frames < 2:
            assert process._process.poll() is None
        process.send("stop")
        assert process.wait() == 0


def test_what_is_no_command_is_told_and_ends_the_process():
    for line in ("{]", '{"type": "dance"}', '{"type": "cancel", "id": "\\ud800"}'):
        with EngineProcess("-c", WAITING) as process:
            process.send_line(line)
            error = process.until("error")[-1]
            assert (error["kind"], error["id"]) == ("protocol", None)
            assert process.wait() == 1


def test_an_exception_becomes_an_error_frame_and_exit_status_1():
    with EngineProcess("-c", "from mlx_engine.process import run; run(lambda engine: 1 / 0)") as process:
        error = process.until("error")[-1]
        assert (error["kind"], error["message"]) == ("internal", "ZeroDivisionError: division by zero")
        assert process.frame() is None
        assert process.wait() == 1


def test_the_wrong_first_command_is_a_protocol_error():
    code = "from mlx_engine.process import run; from mlx_engine.protocol import Train; run(lambda e: e.expect(Train))"
    with EngineProcess("-c", code) as process:
        process.send("stop")
        assert process.until("error")[-1]["message"] == "expected train, got stop"
        assert process.wait() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_parent_takes_the_process_along():
    """Its stdin stays open, and so does the reader of its frames: only the death of its parent can end it."""
    parent_code = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {WAITING!r}], stdin=sys.stdin, pass_fds=(3,))
print(child.pid, flush=True)
time.sleep(600)
"""
    shell = ["/bin/sh", "-c", 'exec "$@" 3>&1', "sh", sys.executable, "-c", parent_code]
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    reader, writer = os.pipe()
    with subprocess.Popen(shell, stdin=reader, stdout=subprocess.PIPE, env=environment) as parent:
        child = os.pidfd_open(int(parent.stdout.readline()))
        assert b"hello" in parent.stdout.readline()
        parent.kill()
        ended, _, _ = select.select([child], [], [], 30)
    for descriptor in (child, reader, writer):
        os.close(descriptor)
    assert ended


def test_frames_without_a_descriptor_are_explained():
    result = subprocess.run(
        [sys.executable, "-m", "mlx_engine.probe"],
        env={**os.environ, "PYTHONPATH": SOURCES},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "add 3>&1" in result.stderr
