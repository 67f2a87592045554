"""Fuzzing: `make fuzz` reads damaged and hostile files with every reader, and records what happens."""
