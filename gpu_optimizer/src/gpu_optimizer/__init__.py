"""Where a PyTorch model's GPU memory goes, what it will need, and how to make it need less."""

__version__ = "0.1.0"
