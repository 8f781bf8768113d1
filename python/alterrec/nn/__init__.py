"""Encoders and losses in PyTorch; nothing here knows models, training or data."""
