"""What the server may not have been told of a run: frames that were in the pipe when it died.

A checkpoint may be of a later step than the last frame that the server read. So the last frames are kept with it, and a
run that goes on from there tells again what the server, by its own word (Train.told_step), does not know. The pipe and
the server's read-ahead hold some 400 of them.
"""

from __future__ import annotations

from collections import deque

import msgspec

from mlx_engine.protocol import Channel, Eval, Sample, Step

_KEPT = 600

_decoder = msgspec.json.Decoder(Step | Eval | Sample)


class Told:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._frames: deque[Step | Eval | Sample] = deque(maxlen=_KEPT)

    def tell(self, frame: Step | Eval | Sample) -> None:
        self._frames.append(frame)
        self._channel.send(frame)

    def tell_again(self, after: int) -> None:
        """What came after step number `after` had been told. Of that step's evaluation the server sees whether it is
        told twice; of the answers to sample_prompts it does not."""
        for frame in self._frames:
            if frame.step > after or (isinstance(frame, Eval) and frame.step == after):
                self._channel.send(frame)

    def lines(self) -> list[str]:
        return [msgspec.json.encode(frame).decode() for frame in self._frames]

    def restore(self, lines: list[str]) -> None:
        self._frames.clear()
        self._frames.extend(_decoder.decode(line) for line in lines)
