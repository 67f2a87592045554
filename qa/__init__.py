"""What is tried to break the package: faults, bad input, mutants."""
