"""Runs in the formats of other libraries: ONNX graphs, vectors for an index, model cards, rankings."""
