"""Foundations: settings, errors, devices and threads, memory, atomic files."""
