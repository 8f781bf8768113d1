"""A finished run at work: recommendations for files, pipes and by HTTP, and catalogues that change."""
