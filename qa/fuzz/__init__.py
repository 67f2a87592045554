"""Damaged and hostile files for every reader: `make fuzz` writes them, reads them, and looks what happens."""
