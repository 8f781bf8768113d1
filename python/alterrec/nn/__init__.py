"""Encoders and losses in PyTorch, independent of models, training and data."""
