"""Generation: scheduler → batch → pool, stack, prefixes; answer → sampling, text. See docs/generation.md."""
