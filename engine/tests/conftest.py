import mlx_engine  # noqa: F401  (first, so that MKL is in place before a test imports mlx.core)
