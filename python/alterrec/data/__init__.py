"""Data sets: read from files, generated, and the vectors of their texts."""
