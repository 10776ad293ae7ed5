"""One fine-tuning run."""
