"""Studies: the questions of the paper, answered by many runs."""
