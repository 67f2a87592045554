"""Fault injection: `make torture` kills commands, limits memory and fills disks, and checks that nothing is lost."""
