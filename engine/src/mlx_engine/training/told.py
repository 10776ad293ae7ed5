"""What the server may not have been told of a run: frames that were in the pipe when it died.

A checkpoint may be of a later step than the last frame that the server read. So the last frames are kept with it, and a
run that goes on from there tells again what the server, by its own word (Train.told_step), does not know. The pipe and
the server's read-ahead hold some 400 of them.
"""

from __future__ import annotations

from collections import deque

import msgspec

from mlx_engine.protocol import Channel, Eval, Rollback, Sample, Step

_KEPT = 600

Kept = Step | Eval | Sample | Rollback

_decoder = msgspec.json.Decoder(Kept)


class Told:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._frames: deque[Kept] = deque(maxlen=_KEPT)

    def keep(self, frame: Kept) -> None:
        self._frames.append(frame)

    def tell(self, frame: Kept) -> None:
        self.keep(frame)
        self._channel.send(frame)

    def tell_again(self, after: int, rollbacks: int = 0) -> None:
        """What came after step number `after` had been told, and all from the first of the last so many `rollbacks` on,
        which the server has not heard of: it knows steps that are no more. Of an evaluation of step `after` it sees
        whether it is told twice; of the answers to sample_prompts it does not."""
        frames = list(self._frames)
        returns = [at for at, frame in enumerate(frames) if isinstance(frame, Rollback)][-rollbacks:]
        unheard = returns[0] if rollbacks > 0 and returns else len(frames)
        for at, frame in enumerate(frames):
            news = frame.step > after and not isinstance(frame, Rollback)
            if at >= unheard or news or (isinstance(frame, Eval) and frame.step == after):
                self._channel.send(frame)

    def lines(self) -> list[str]:
        return [msgspec.json.encode(frame).decode() for frame in self._frames]

    def restore(self, lines: list[str]) -> None:
        self._frames.clear()
        self._frames.extend(_decoder.decode(line) for line in lines)
