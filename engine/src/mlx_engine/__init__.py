"""The one process that touches MLX: training, generation, model import. Driven over pipes, see protocol.py."""
