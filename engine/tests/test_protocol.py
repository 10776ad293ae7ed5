import json
import os
import threading
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from mlx_engine import protocol
from mlx_engine.protocol import Channel, Command, EngineError, Frame, Token, read_commands

GOLDEN = (Path(__file__).parent / "golden_frames.jsonl").read_text().splitlines()
_decoder = msgspec.json.Decoder(Frame | Command)


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: json.loads(line)["type"])
def test_golden_frames_round_trip_exactly(line):
    assert json.loads(msgspec.json.encode(_decoder.decode(line))) == json.loads(line)


def test_every_frame_and_command_has_a_golden_line():
    structs = {*get_args(Frame), *get_args(Command)}
    assert {json.loads(line)["type"] for line in GOLDEN} == {struct.__struct_config__.tag for struct in structs}


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: json.loads(line)["type"])
def test_unknown_fields_are_refused(line):
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        _decoder.decode(json.dumps(json.loads(line) | {"surprise": 1}))


def test_lines_of_several_threads_stay_whole():
    reader, writer = os.pipe()
    channel = Channel(writer)
    texts = [chr(ord("a") + number) * 20_000 for number in range(4)]  # longer than a pipe takes at once
    threads = [threading.Thread(target=channel.send, args=(Token(id=text[0], text=text),)) for text in texts]
    for thread in threads:
        thread.start()
    with os.fdopen(reader, "rb") as stream:
        received = [msgspec.json.decode(stream.readline(), type=Token) for _ in texts]
    for thread in threads:
        thread.join()
    os.close(writer)
    assert sorted(token.text for token in received) == texts


def test_a_line_that_is_no_command_is_told_and_the_next_one_is_read(tmp_path):
    (tmp_path / "commands").write_text('{"type": "stop"}\n{"type": "dance"}\n\n{"type": "suspend"}\n')
    with (tmp_path / "commands").open("rb") as stream:
        commands = read_commands(stream)
        assert isinstance(next(commands), protocol.Stop)
        with pytest.raises(EngineError, match=r"bad command: .*dance") as raised:
            next(commands)
        assert raised.value.kind == "protocol"
        assert isinstance(next(read_commands(stream)), protocol.Suspend)
