"""A scheduler whose steps a test makes, and what it has sent."""

from pathlib import Path

from mlx_engine import kernels, platform
from mlx_engine.models.bases import Bases
from mlx_engine.protocol import ChatMessage, Done, Error, Generate, Token
from mlx_engine.serving.scheduler import Scheduler
from mlx_engine.serving.settings import Settings


class House:
    def __init__(self, **settings: int) -> None:
        self.frames: list[Token | Done | Error] = []
        self.loads: list[str] = []
        self.settings = Settings(**settings)
        self.bases = Bases(
            platform.setup(),
            lambda path, _: self.loads.append(path),
            budget=self.settings.models_bytes,
            adapters_bytes=self.settings.adapters_bytes,
        )
        self.scheduler = Scheduler(self.bases, self.settings, self.frames.append, kernels.load())

    def run(self) -> None:
        while not self.scheduler.idle:
            self.scheduler.step()

    def ends(self) -> dict[str, Done | Error]:
        return {frame.id: frame for frame in self.frames if not isinstance(frame, Token)}

    def ask(self, *requests: Generate) -> list[Done | Error]:
        for request in requests:
            self.scheduler.submit(request)
        self.run()
        ends = self.ends()
        return [ends[request.id] for request in requests]


def request(id: str, model: Path, adapter: Path | None = None, text: str | None = None, **changes) -> Generate:
    fields = {
        "messages": [ChatMessage(role="user", content=text)] if text is not None else None,
        "prompt": None if text is not None else "Give",
        "max_tokens": 8,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop": [],
        "seed": None,
        **changes,
    }
    return Generate(id=id, model_path=str(model), adapter_path=adapter and str(adapter), **fields)
