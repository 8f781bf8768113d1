"""Painters: panels of plain data in, a matplotlib figure out. Every painter takes a list of panels."""
