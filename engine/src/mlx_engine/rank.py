"""`python -m mlx_engine.rank RANK SIZE LINK FRAMES`: one more rank of a fine-tuning run, started by rank 0.

It does what `mlx_engine.train` does, with the same Train command on stdin. Its frames go to rank 0, which heeds the
heartbeat and errors; LINK and FRAMES are the file descriptors of both (see training/ranks.py).
"""

import socket
import sys

from mlx_engine.process import Engine, run
from mlx_engine.protocol import Train


def main(engine: Engine) -> None:
    rank, size, link = map(int, sys.argv[1:4])
    command = engine.expect(Train)
    from mlx_engine.training.ranks import Follower, Link, backend_of
    from mlx_engine.training.session import Training

    group = Follower(rank, size, backend_of(engine.platform), Link(socket.socket(fileno=link)))
    Training(command, engine, group=group).run()


if __name__ == "__main__":
    run(main, frames=int(sys.argv[4]))
