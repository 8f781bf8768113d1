"""One run: train a system, save it, load it again, recommend with it."""
