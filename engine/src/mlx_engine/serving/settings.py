"""How much the generation process takes on, from MLX_TRAINING_GENERATION_… variables; docs/generation.md lists them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from mlx_engine.platform import memory_bytes

_PREFIX = "MLX_TRAINING_GENERATION_"


@dataclass(frozen=True)
class Settings:
    max_batch: int = 16  # answers decoded side by side
    queue: int = 64  # requests that wait beside those; the next one is told that the engine is busy
    prefill_tokens: int = 128  # of a prompt between two decode steps of others
    idle_seconds: int = 600  # after which a base model that nobody asked for is unloaded
    models_mb: int = 0  # weights of all bases; 0, as for the next three: a share of the memory
    adapters_mb: int = 0
    prompt_cache_mb: int = 0
    kv_mb: int = 0  # keys and values of the answers at work

    @staticmethod
    def of_environment() -> Settings:
        """The server has checked them; by hand, a value that is no whole number is a ValueError."""
        given = {f.name: os.environ.get(_PREFIX + f.name.upper()) for f in fields(Settings)}
        return Settings(**{name: int(value) for name, value in given.items() if value})

    @property
    def models_bytes(self) -> int:
        return self.models_mb * 10**6 or memory_bytes() // 2

    @property
    def adapters_bytes(self) -> int:
        return self.adapters_mb * 10**6 or memory_bytes() // 16

    @property
    def prompt_cache_bytes(self) -> int:
        return self.prompt_cache_mb * 10**6 or memory_bytes() // 16

    @property
    def kv_bytes(self) -> int:
        return self.kv_mb * 10**6 or memory_bytes() // 4
