"""Models and adapters on disk, and how they become MLX modules."""
