"""LoRA with PEFT as most people run it: transformers' Trainer, its defaults where the benchmark sets nothing.

Rows in random order, padded to the longest of the batch, full logits. One epoch.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import torch
from common import IGNORED, emit, labelled_rows, load, options
from transformers import (
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Collator(DataCollatorForSeq2Seq):
    """Counts what each batch holds; the loader collates a batch or two ahead of the step that takes it."""

    counts: ClassVar[deque[dict[str, int]]] = deque()

    def __call__(self, features: Any, return_tensors: str | None = None) -> Any:
        batch = super().__call__(features, return_tensors)
        self.counts.append(
            {
                "tokens": int(batch["attention_mask"].sum()),
                "trained": int((batch["labels"][:, 1:] != IGNORED).sum()),
                "positions": batch["input_ids"].numel(),
            }
        )
        return batch


class Report(TrainerCallback):
    def on_train_begin(self, *_: Any, **__: Any) -> None:
        emit("ready", about={"threads": torch.get_num_threads()})

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        emit("step", step=state.global_step, **Collator.counts.popleft())


def main() -> None:
    args = options()
    model, tokenizer = load(args)
    arguments = TrainingArguments(
        output_dir=args.output,
        num_train_epochs=1,
        per_device_train_batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=args.weight_decay,
        max_grad_norm=args.max_grad_norm,
        seed=args.seed,
        use_cpu=True,
        bf16=args.dtype == "bfloat16",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=labelled_rows(args.rows, tokenizer, args.max_seq_length),
        data_collator=Collator(tokenizer, label_pad_token_id=IGNORED),
        callbacks=[Report()],
    )
    trainer.train()
    model.save_pretrained(args.output)


main()
