"""Systems: compositions of encoders, and the neighbour baselines; nothing here knows training."""
