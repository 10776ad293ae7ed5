"""The rule that splits rows, which the server has, too (packages/server/src/datasets/library/place.ts)."""

import json
from pathlib import Path

import msgspec

from mlx_engine.data.rows import Row
from mlx_engine.data.split import _place


def test_rows_have_the_places_that_the_server_gives_them():
    lines = Path(__file__).with_name("golden_split.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert len(lines) > 100
    for line in lines:
        golden = json.loads(line)
        # As it stands, for numbers are part of what is hashed.
        row = msgspec.json.decode(line[len('{"row":') : line.rindex(',"place":')], type=Row)
        assert _place(row) == golden["place"], line
