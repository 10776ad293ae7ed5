from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mlx_engine import failpoints
from mlx_engine.failpoints import failpoint


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch):
    """As a process that starts with the variable sees it."""

    def arm(text: str) -> None:
        monkeypatch.setattr(failpoints, "_armed", failpoints._parse(text))
        failpoints._passes.clear()

    return arm


def test_it_acts_at_the_pass_that_is_named_and_at_no_other(armed) -> None:
    armed("a@2=skip,b=enospc")
    assert [failpoint(name) for name in "aaac"] == [False, True, False, False]
    with pytest.raises(OSError, match="No space left") as raised:
        failpoint("b")
    assert raised.value.errno == errno.ENOSPC
    assert not failpoint("b")


def test_with_a_marker_it_acts_in_one_process_of_several(armed, tmp_path: Path) -> None:
    for expected in (True, False):
        armed(f"a=skip~{tmp_path / 'fired'}")
        assert failpoint("a") is expected


def test_what_it_does_not_understand_is_refused(armed) -> None:
    with pytest.raises(ValueError, match="'a=explode' is not NAME"):
        armed("a=explode")
