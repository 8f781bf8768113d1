"""A finished run at work: recommendations for files and pipes of sessions, and catalogues that change."""
