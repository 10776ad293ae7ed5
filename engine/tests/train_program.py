"""`mlx_engine.train` and `mlx_engine.rank` on a machine that has four cores, as far as they can tell."""

import sys

from mlx_engine import rank, train
from mlx_engine.process import Engine, run


def main(engine: Engine) -> None:
    from mlx_engine.training import compute, peers

    for module in (compute, peers):
        module.usable_cores = lambda: 4
    peers.PROGRAM = (__file__,)
    (rank.main if len(sys.argv) > 1 else train.main)(engine)


if __name__ == "__main__":
    run(main, frames=int(sys.argv[4]) if len(sys.argv) > 1 else 3)
