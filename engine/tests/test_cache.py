"""The cache of tokenised data sets: found again, told from others and from damaged ones, and kept small."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.utils import load_tokenizer

from harness import questions, row, write_snapshot
from mlx_engine.data.cache import cached, key_of
from mlx_engine.data.examples import Damaged, Examples
from mlx_engine.data.rows import Snapshot
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset, write
from tiny import CHATML, make_tokenizer
from tokenized import DATE

OPTIONS = Options(max_seq_length=64, date=DATE)


class Maker:
    """Tokenises rows with a tokenizer of its own, and counts how often."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]], template: str | bool = True) -> None:
        self.model = folder / "model"
        make_tokenizer(self.model, chat_template=template)
        self.tokenizer = load_tokenizer(self.model)
        write_snapshot(folder / "rows.jsonl", rows)
        self.rows = Snapshot(str(folder / "rows.jsonl"))
        self.folder = folder / "cache"
        self.made = 0

    def key(self, options: Options = OPTIONS, part: str = "all") -> str:
        return key_of(self.rows.sha256, part, self.tokenizer, self.model, options)

    def get(self, limit: int = 1 << 30, **changes: Any) -> Dataset:
        options = replace(OPTIONS, **changes)
        key = self.key(options)

        def make(file: Any) -> None:
            self.made += 1
            write(file, self.rows, self.tokenizer, options, key=key)

        return cached(str(self.folder), key, make, limit)

    def entries(self) -> list[Path]:
        return sorted(self.folder.glob("*.tokens"))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    rows = [*questions(20), row(20, ("user", "Hi")), row(21, ("user", "Hi"), ("assistant", "word " * 90))]
    return Maker(tmp_path, rows)


def content(data: Dataset) -> Any:
    examples = [(e.sample, e.tokens.tolist(), e.supervised.tolist()) for e in data.examples]
    return examples, data.lengths.tolist(), data.tokens, data.trained_tokens, data.warnings, str(data.truncated)


def test_an_entry_is_found_again_with_all_that_is_told(maker: Maker) -> None:
    first, second = maker.get(), maker.get()
    assert maker.made == 1
    assert content(first) == content(second)
    assert [code for code, _ in second.warnings] == ["rows_dropped", "rows_truncated"]
    assert len(second.dropped) == 1
    assert list(maker.folder.iterdir()) == maker.entries()


def test_without_a_folder_nothing_is_kept(maker: Maker) -> None:
    data = cached(None, "", lambda file: write(file, maker.rows, maker.tokenizer, OPTIONS))
    assert content(data) == content(maker.get())


@pytest.mark.parametrize(
    "changes",
    [
        {"max_seq_length": 63},
        {"context_length": 32},
        {"context_length": 64},
        {"loss_on": "all"},
        {"loss_on": "last_completion"},
        {"truncation": "drop"},
    ],
)
def test_every_option_has_entries_of_its_own(changes: dict[str, Any], maker: Maker) -> None:
    same = changes == {"context_length": 64}  # as short as max_seq_length
    assert (maker.key(replace(OPTIONS, **changes)) == maker.key()) == same


def test_the_date_counts_where_the_template_shows_it(tmp_path: Path) -> None:
    later = replace(OPTIONS, date=DATE + datetime.timedelta(days=1))
    plain = Maker(tmp_path / "a", questions(2))
    assert plain.key() == plain.key(later)
    dated = Maker(tmp_path / "b", questions(2), "{{ strftime_now('%d %b') }}" + CHATML)
    assert dated.key() != dated.key(later)
    monthly = Maker(tmp_path / "c", questions(2), "{{ strftime_now('%b') }}" + CHATML)
    assert monthly.key() == monthly.key(later)


def test_rows_parts_tokenizers_and_templates_have_entries_of_their_own(tmp_path: Path, maker: Maker) -> None:
    keys = {maker.key(), maker.key(part="half")}
    keys.add(Maker(tmp_path / "rows", questions(3)).key())
    keys.add(Maker(tmp_path / "template", questions(20), CHATML + " ").key())
    (maker.model / "tokenizer.json").write_text((maker.model / "tokenizer.json").read_text() + " ")
    keys.add(maker.key())
    (maker.model / "model.safetensors").write_bytes(b"weights")
    keys.add(maker.key())
    assert len(keys) == 5
    maker.tokenizer.add_eos_token("<|endoftext|>")
    assert maker.key() not in keys


# ---- damage ----


@given(at=st.floats(0, 1, exclude_max=True), how=st.sampled_from(["flip", "cut", "empty", "grow"]))
@settings(max_examples=60, deadline=None)
def test_a_damaged_entry_is_made_anew(at: float, how: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    maker = Maker(tmp_path_factory.mktemp("c"), questions(4))
    expected = content(maker.get())
    (path,) = maker.entries()
    data = bytearray(path.read_bytes())
    place = int(at * len(data))
    match how:
        case "flip":
            data[place] ^= 1 + place % 255
        case "cut":
            del data[place:]
        case "empty":
            data.clear()
        case "grow":
            data[place:place] = b"\0"
    path.write_bytes(data)
    assert content(maker.get()) == expected
    assert maker.made == 2
    assert content(maker.get()) == expected
    assert maker.made == 2


def test_an_entry_under_anothers_name_is_not_taken(maker: Maker, capsys: pytest.CaptureFixture) -> None:
    maker.get()
    (foreign,) = maker.entries()
    foreign.rename(maker.folder / f"{maker.key(replace(OPTIONS, loss_on='all'))}.tokens")
    data = maker.get(loss_on="all")
    assert maker.made == 2
    assert data.trained_tokens == data.tokens - len(data.examples)
    assert "is made anew: it belongs to another data set" in capsys.readouterr().err


def test_a_file_of_something_else_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 1000)
    with pytest.raises(Damaged, match="no complete file of this version"):
        Examples((tmp_path / "x").open("rb"))


def test_a_failed_making_leaves_nothing(maker: Maker) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached(str(maker.folder), "key", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    assert list(maker.folder.iterdir()) == []


# ---- several at once, and in the long run ----


def test_several_make_the_same_entry_at_once(maker: Maker) -> None:
    together = threading.Barrier(4)
    expected = content(maker.get())
    (path,) = maker.entries()
    data = path.read_bytes()
    path.unlink()

    def make(file: Any) -> None:
        together.wait(timeout=60)  # all have looked, and found nothing
        for at in range(0, len(data), 100):
            file.write(data[at : at + 100])
        file.flush()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: cached(str(maker.folder), maker.key(), make), range(4)))
    assert all(content(each) == expected for each in made)
    assert content(maker.get()) == expected
    assert maker.made == 1
    assert list(maker.folder.iterdir()) == [path]


def test_another_process_finds_the_entry(maker: Maker) -> None:
    """Keys don't depend on the process (hash seeds, order of sets)."""
    program = (
        "import sys; from pathlib import Path; from mlx_lm.utils import load_tokenizer\n"
        "import test_cache as t; m = Path(sys.argv[1])\n"
        "print(t.key_of(sys.argv[2], 'all', load_tokenizer(m), m, t.OPTIONS))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", program, str(maker.model), maker.rows.sha256],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split()[-1] == maker.key()


def test_what_was_not_used_for_longest_goes_first(maker: Maker) -> None:
    for i, length in enumerate((50, 51, 52)):
        maker.get(max_seq_length=length)
        path = maker.folder / f"{maker.key(replace(OPTIONS, max_seq_length=length))}.tokens"
        os.utime(path, (i, i))
    size = max(path.stat().st_size for path in maker.entries())
    maker.get(max_seq_length=50)  # used again: 51 is now the oldest
    assert maker.made == 3
    still_open = maker.get(max_seq_length=51)
    os.utime(maker.folder / f"{maker.key(replace(OPTIONS, max_seq_length=51))}.tokens", (1, 1))
    maker.get(limit=3 * size, max_seq_length=53)
    assert len(maker.entries()) == 3
    assert not (maker.folder / f"{maker.key(replace(OPTIONS, max_seq_length=51))}.tokens").exists()
    assert len(content(still_open)[0]) == 21
    maker.get(limit=0, max_seq_length=54)
    assert [path.stem for path in maker.entries()] == [maker.key(replace(OPTIONS, max_seq_length=54))]


def test_what_killed_processes_left_is_removed_after_a_day(maker: Maker) -> None:
    maker.folder.mkdir()
    for name, age in (("old.tmp", 2e5), ("new.tmp", 60)):
        (maker.folder / name).touch()
        then = datetime.datetime.now().timestamp() - age
        os.utime(maker.folder / name, (then, then))
    maker.get()
    assert [path.name for path in maker.folder.iterdir() if path.suffix == ".tmp"] == ["new.tmp"]
