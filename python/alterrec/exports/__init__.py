"""Runs in the formats of other libraries, and their rankings as run folders."""
