"""Exact ranks of every target, and everything that derives from them."""
