"""`python -m mlx_engine.probe`: one hello frame with a measured GFLOP/s, then the end. Run when the server starts."""

from mlx_engine.process import run

if __name__ == "__main__":
    run(lambda engine: None, measure=True)
