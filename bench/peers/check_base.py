"""Whether PyTorch computes the same logits from the exported base as we do: `python check_base.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
ours = load_file(folder / "logits.safetensors")
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
with torch.no_grad():
    theirs = model(ours["tokens"].long()[None]).logits[0]
difference = (theirs - ours["logits"]).abs().max().item()
print(
    json.dumps(
        {
            "tokens": len(theirs),
            "largest_logit": theirs.abs().max().item(),
            "difference": difference,
        }
    )
)
