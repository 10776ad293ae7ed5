"""LoRA with PyTorch + PEFT in a plain loop: what somebody who cares about speed writes.

Rows of like length share a batch, padding reaches to the longest of the batch, no data loader processes, no
synchronisation but the loss that is printed. One epoch. With --packed a batch's rows lie end to end in one, under a
4-D mask through which none sees another.
"""

from __future__ import annotations

import random

import torch
from common import IGNORED, emit, labelled_rows, load, options

_MEGA = 50  # batches in which rows are sorted by length


def batches(lengths: list[int], size: int, seed: int) -> list[list[int]]:
    generator = random.Random(seed)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    found = []
    for start in range(0, len(order), size * _MEGA):
        mega = sorted(order[start : start + size * _MEGA], key=lambda i: -lengths[i])
        found += [mega[i : i + size] for i in range(0, len(mega), size)]
    generator.shuffle(found)
    return found


def collate(rows: list[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, value: int) -> torch.Tensor:
        return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {
        "input_ids": padded("input_ids", pad),
        "labels": padded("labels", IGNORED),
        "attention_mask": mask,
    }


def pack(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    row = torch.repeat_interleave(torch.arange(len(rows)), lengths)
    # A row's first token is nobody's next one.
    labels = [label for one in rows for label in [IGNORED, *one["labels"][1:]]]
    return {
        "input_ids": torch.tensor([[token for one in rows for token in one["input_ids"]]]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.cat([torch.arange(int(n)) for n in lengths])[None],
        "attention_mask": ((row[:, None] == row) & torch.ones(len(row), len(row), dtype=torch.bool).tril())[None, None],
    }


def loss_at_responses(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The same mean cross-entropy with logits at the supervised positions alone."""
    inner = model.get_base_model()
    hidden = inner.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORED
    logits = inner.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits.float(), targets[wanted])


def main() -> None:
    args = options()
    model, tokenizer = load(args)
    rows = labelled_rows(args.rows, tokenizer, args.max_seq_length)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=args.weight_decay)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bfloat16")
    model.train()
    emit("ready", about={"threads": torch.get_num_threads()})
    lengths = [len(row["input_ids"]) for row in rows]
    for step, chosen in enumerate(batches(lengths, args.batch_size, args.seed), 1):
        together = [rows[i] for i in chosen]
        batch = pack(together) if args.packed else collate(together, tokenizer.pad_token_id)
        with autocast:
            loss = loss_at_responses(model, batch) if args.responses_only else model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        emit(
            "step",
            step=step,
            loss=loss.item(),
            tokens=sum(lengths[i] for i in chosen),
            trained=int((batch["labels"][:, 1:] != IGNORED).sum()),
            positions=batch["input_ids"].numel(),
        )
    model.save_pretrained(args.output)


main()
