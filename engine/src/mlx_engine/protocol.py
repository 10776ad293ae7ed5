"""Frames and commands, protocol version 1: JSON lines.

Frames go to file descriptor 3, commands come from stdin, EOF on stdin means exit; stdout and stderr are
logs only, so that a stray print can't corrupt the protocol. packages/contract/src/frames.ts is the other
side and describes every field; tests/golden_frames.jsonl is read by both sides' tests.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import msgspec

from mlx_engine.hang import WATCH
from mlx_engine.supervision import SupervisionReport

PROTOCOL_VERSION = 1
FRAME_FD = 3

ErrorKind = Literal[
    "invalid_model",
    "invalid_dataset",
    "invalid_parameters",
    "context_length",
    "out_of_memory",
    "disk_full",
    "non_finite",
    "lease_lost",
    "busy",
    "protocol",
    "internal",
]


class EngineError(Exception):
    """What the user must be told: `kind` is a stable code, the message one line."""

    def __init__(self, kind: ErrorKind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.retry_after = retry_after


class _Tagged(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


# ---- frames ----


class Hello(_Tagged, tag="hello", kw_only=True):
    protocol: int = PROTOCOL_VERSION
    pid: int
    device: str
    backend: str
    dtype: str
    gflops: float | None
    kernels: str | None
    mlx_version: str
    mlx_lm_version: str


class Alive(_Tagged, tag="alive"):
    memory_mb: float


class Error(_Tagged, tag="error", kw_only=True):
    id: str | None = None
    kind: ErrorKind
    message: str
    traceback: str | None = None
    retry_after: float | None = None


class Stage(_Tagged, tag="stage"):
    stage: str
    done: int = 0
    total: int = 0


class Prepared(_Tagged, tag="prepared"):
    total_steps: int
    steps_per_epoch: int
    resumed_from_step: int
    samples: int
    samples_dropped: int
    samples_truncated: int
    tokens: int
    trained_tokens: int
    validation_samples: int
    trainable_params: int
    total_params: int
    target_modules: list[str]
    packing: bool
    lanes: int
    ranks: int


class Step(_Tagged, tag="step"):
    step: int
    epoch: int
    loss: float | None
    smoothed_loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens: int
    trained_tokens: int
    tokens_per_second: float
    trained_tokens_per_second: float
    padding_share: float
    processed_samples: int
    memory_mb: float
    seconds_remaining: float | None
    ceded_seconds: float = 0.0


class Eval(_Tagged, tag="eval"):
    step: int
    loss: float
    trained_tokens: int
    perplexity: float
    token_accuracy: float
    best: bool


class Sample(_Tagged, tag="sample"):
    step: int
    prompt: str
    base: str
    tuned: str


class Checkpoint(_Tagged, tag="checkpoint"):
    step: int
    path: str
    loss: float | None
    validation_loss: float | None
    best: bool


class Rollback(_Tagged, tag="rollback"):
    step: int
    learning_rate_scale: float
    message: str


class Memory(_Tagged, tag="memory"):
    level: int
    message: str


class Verified(_Tagged, tag="verified"):
    ok: bool
    message: str
    logit_difference: float | None
    serving_loss: float | None
    trainer_loss: float | None


class Warning(_Tagged, tag="warning"):
    code: str
    message: str


class Finished(_Tagged, tag="finished"):
    outcome: Literal["completed", "stopped", "suspended"]
    step: int
    loss: float | None
    best_step: int | None
    reason: str | None


class Estimated(_Tagged, tag="estimated"):
    total_steps: int
    steps_per_epoch: int
    samples: int
    samples_dropped: int
    samples_truncated: int
    tokens: int
    trained_tokens: int
    longest_sample: int
    padding_share: float
    measured_steps: int
    seconds: float
    seconds_per_step: float | None
    tokens_per_second: float | None
    peak_memory_mb: float | None
    available_memory_mb: float
    fits: bool
    advice: list[str]
    trainable_params: int
    total_params: int
    target_modules: list[str]


class Loaded(_Tagged, tag="loaded"):
    model_path: str
    seconds: float


class LikelyToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: int
    text: str
    logprob: float


class TokenLogprob(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    id: int
    text: str
    logprob: float
    top: list[LikelyToken]


class Token(_Tagged, tag="token"):
    id: str
    text: str
    index: int = 0
    logprobs: list[TokenLogprob] | None = None


FinishReason = Literal["stop", "length", "cancelled"]


class Choice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    text: str
    finish_reason: FinishReason
    completion_tokens: int


class Timing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float


class Done(_Tagged, tag="done"):
    id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    choices: list[Choice]
    timing: Timing


class Imported(_Tagged, tag="imported"):
    path: str
    total_params: int


class Inspected(_Tagged, tag="inspected"):
    id: str
    report: SupervisionReport | None = None


class Previewed(_Tagged, tag="previewed"):
    id: str
    json: str = "[]"
    more: bool = False


class Scored(_Tagged, tag="scored"):
    samples: list[int]
    trained: list[int]
    correct: list[int]
    losses: list[float | None]  # None: not finite


class Evaluated(_Tagged, tag="evaluated"):
    rows: int
    rows_dropped: int
    rows_truncated: int
    trained_tokens: int
    loss: float | None
    token_accuracy: float
    seconds: float


Frame = (
    Hello
    | Alive
    | Error
    | Stage
    | Prepared
    | Step
    | Eval
    | Sample
    | Checkpoint
    | Rollback
    | Memory
    | Verified
    | Warning
    | Finished
    | Estimated
    | Loaded
    | Token
    | Done
    | Imported
    | Inspected
    | Previewed
    | Scored
    | Evaluated
)


# ---- commands ----


class DatasetSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    path: str
    sha256: str
    format: Literal["alpaca", "sharegpt", "openai", "prompt_completion", "text"]
    validation_path: str | None
    validation_sha256: str | None = None
    validation_split: float | None
    batch_size: int
    max_seq_length: int
    shuffle: bool
    loss_on: Literal["completions", "last_completion", "all"]
    truncation: Literal["truncate", "drop", "error"]
    packing: bool | None
    cache_path: str | None


class LoraSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    rank: int
    alpha: float
    dropout: float
    target_modules: list[str]
    use_rslora: bool = False
    use_dora: bool = False
    plus_ratio: float = 1.0
    layers: int | None = None


class Train(_Tagged, tag="train", kw_only=True):
    job_id: str
    attempt: int
    experiment_name: str
    model_path: str
    model_name: str
    dataset: DatasetSpec
    method: Literal["lora", "qlora", "full"]
    lora: LoraSpec | None
    epochs: int
    max_steps: int | None
    learning_rate: float
    optimizer: Literal["adamw", "adam", "sgd", "adafactor", "muon", "lion"]
    lr_scheduler_type: Literal["linear", "cosine", "constant"]
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    gradient_accumulation_steps: int
    seed: int
    eval_steps: int | None
    early_stopping_patience: int | None
    early_stopping_threshold: float
    load_best_model_at_end: bool
    sample_prompts: list[str]
    sample_steps: int | None
    sample_max_tokens: int
    save_steps: int | None
    ranks: int
    memory_level: int
    output_dir: str
    lease: str | None = None
    resume: bool
    told_step: int | None = None
    told_rollbacks: int = 0
    initial_adapter: str | None = None


class Stop(_Tagged, tag="stop"):
    pass


class Suspend(_Tagged, tag="suspend"):
    pass


class Answering(_Tagged, tag="answering"):
    active: bool


class ChatMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    role: str
    content: str
    tool_calls: list[dict[str, Any]] = []  # as templates take them: {"function": {"name", "arguments"}}
    tool_call_id: str | None = None  # of a tool's result: the call that it answers
    name: str | None = None  # of that tool


class Generate(_Tagged, tag="generate"):
    id: str
    model_path: str
    adapter_path: str | None
    messages: list[ChatMessage] | None
    prompt: str | None
    max_tokens: int
    temperature: float
    top_p: float
    stop: list[str]
    seed: int | None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    n: int = 1
    tools: list[dict[str, Any]] = []
    json_schema: dict[str, Any] | None = None


class Cancel(_Tagged, tag="cancel"):
    id: str


class Import(_Tagged, tag="import"):
    gguf_path: str
    output_path: str


class Inspect(_Tagged, tag="inspect"):
    id: str
    model_path: str
    dataset: DatasetSpec
    seed: int


class Preview(_Tagged, tag="preview"):
    id: str
    model_path: str
    dataset: DatasetSpec
    samples: list[int]


class Evaluate(_Tagged, tag="evaluate"):
    model_path: str
    adapter_path: str | None
    dataset: DatasetSpec
    max_samples: int | None
    seed: int
    memory_level: int = 0


Command = Train | Stop | Suspend | Answering | Generate | Cancel | Import | Inspect | Preview | Evaluate


# ---- the wire ----

_encoder = msgspec.json.Encoder()
_command_decoder = msgspec.json.Decoder(Command)


class Channel:
    """Sends frames; safe to use from several threads. A dead reader ends the process, as stdin's EOF does."""

    def __init__(self, fd: int = FRAME_FD) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        data = memoryview(_encoder.encode(frame) + b"\n")
        if not isinstance(frame, Alive):
            WATCH.moved()
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except BrokenPipeError:
                os._exit(0)


def read_commands(stream: BinaryIO | None = None) -> Iterator[Any]:
    """Yields commands until EOF. A line that is no command raises EngineError('protocol')."""
    for line in stream or sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            yield _command_decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise EngineError("protocol", f"bad command: {error}") from error
