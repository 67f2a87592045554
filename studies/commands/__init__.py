"""Commands of `diffseglung` that run the studies; they work in a clone of the repository only."""
