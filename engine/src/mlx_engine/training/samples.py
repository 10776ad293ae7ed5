"""What the model answers to sample_prompts as it learns, beside what the base answered."""

from __future__ import annotations

import time
from pathlib import Path

from mlx_engine.hang import WATCH
from mlx_engine.process import Engine
from mlx_engine.protocol import ChatMessage, EngineError, Generate, Sample, Train
from mlx_engine.serving.chat import end_tokens
from mlx_engine.serving.generate import generate
from mlx_engine.training.control import Control
from mlx_engine.training.describe import system_prompt
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run


class Samples:
    """The base answers before the first step, whose model it is then; the model in training every sample_steps and at
    the end. By the code that serves the result, so that the prompts meet the template and the end tokens that they
    will meet there; the likeliest token each time, so that nothing random is drawn."""

    def __init__(self, command: Train, engine: Engine, control: Control, run: Run, plan: Plan) -> None:
        self._prompts = command.sample_prompts
        self._max_tokens = command.sample_max_tokens
        self._plain = command.dataset.format in ("prompt_completion", "text")  # continued, as the rows are
        self._engine = engine
        self._control = control
        self._run = run
        self._cadence = plan.cadence(command.sample_steps)
        self._ends = end_tokens(run.subject.loaded.tokenizer)
        self._system = system_prompt(Path(command.dataset.path)) if self._prompts else None
        self._seconds = 0.0  # that the last round took

    def run_if_due(self, ending: bool) -> None:
        """Once for every step that it is due at, and where the run is `ending`. Raises Ended when `control` says so."""
        progress = self._run.progress
        if not self._prompts or self._run.group.rank > 0 or progress.sampled_step == progress.step:
            return
        if not (ending or self._cadence.due(progress.step)):
            return
        started = time.monotonic()
        answers = self._answers()
        self._seconds = time.monotonic() - started
        with self._control.lock:
            progress.sampled_step = progress.step
            if progress.step == 0:
                progress.base_answers = answers
                return
            for prompt, base, tuned in zip(self._prompts, progress.base_answers, answers, strict=True):
                self._run.told.tell(Sample(step=progress.step, prompt=prompt, base=base, tuned=tuned))

    def seconds_left(self) -> float:
        """Of the rounds to come, that at the present step among them."""
        if not self._prompts:
            return 0.0
        progress = self._run.progress
        due_now = progress.sampled_step != progress.step and self._cadence.due(progress.step)
        return (due_now + self._cadence.left(progress.step)) * self._seconds

    def _answers(self) -> list[str]:
        model = self._run.subject.model
        model.eval()
        try:
            return [self._answer(number) for number in range(len(self._prompts))]
        finally:
            model.train()

    def _answer(self, number: int) -> str:
        self._engine.stage("sampling", number, len(self._prompts))
        prompt = self._prompts[number]
        request = Generate(
            id="",
            model_path="",
            adapter_path=None,
            messages=None if self._plain else [ChatMessage(role="user", content=prompt)],
            prompt=prompt if self._plain else None,
            max_tokens=self._max_tokens,
            temperature=0.0,
            top_p=1.0,
            stop=[],
            seed=None,
        )
        try:
            pieces = generate(self._run.subject.loaded, self._ends, request, self._is_cancelled, self._system)
            return "".join(piece for piece in pieces if isinstance(piece, str))
        except EngineError as error:
            if error.kind == "non_finite":  # the next loss will tell, and what is to be done about it
                return ""
            raise EngineError(error.kind, f"sample_prompts[{number}]: {error}") from error

    def _is_cancelled(self) -> bool:
        WATCH.moved()
        self._control.check()
        return False
