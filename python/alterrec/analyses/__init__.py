"""Analyses of finished runs and of data sets: run page, compare, balance, audit."""
