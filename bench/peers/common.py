"""What the PyTorch peers share: options, rows → labelled tokens, the LoRA model, events for the orchestrator.

Events are JSON lines on stdout; bench/lib/peers.mjs takes the time when a line arrives.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORED = -100  # label of a token that carries no loss


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, help="JSONL with `messages`")
    parser.add_argument("--output", required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--max-seq-length", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--alpha", type=float, required=True)
    parser.add_argument("--target-modules", nargs="+", required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--weight-decay", type=float, required=True)
    parser.add_argument("--max-grad-norm", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--responses-only",
        action="store_true",
        help="logits at supervised positions alone",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="a batch's rows end to end in one, instead of padded",
    )
    return parser.parse_args()


def emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def labelled_rows(path: str, tokenizer: Any, max_seq_length: int) -> list[dict[str, list[int]]]:
    """input_ids and labels of each row: loss on the last turn, an assistant's, with its end token."""
    rows = []
    for line in Path(path).read_text("utf-8").splitlines():
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        tokens = tokenizer.apply_chat_template(messages, return_dict=False)
        end = len(tokens) - tokens[::-1].index(tokenizer.eos_token_id)  # less the newline after it
        tokens = tokens[:end][:max_seq_length]
        labels = [IGNORED] * len(prompt) + tokens[len(prompt) :]
        rows.append({"input_ids": tokens, "labels": labels[: len(tokens)]})
    return rows


def load(args: argparse.Namespace) -> tuple[PeftModel, Any]:
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    config = LoraConfig(
        r=args.rank,
        lora_alpha=args.alpha,
        lora_dropout=0.0,
        target_modules=args.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config), tokenizer
