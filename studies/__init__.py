"""Studies of the methods: scores against truth, compared methods, robustness, generation, ablations, speed."""
