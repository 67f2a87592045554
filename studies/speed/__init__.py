"""Time and memory of each stage, compared with other libraries and with the limits of the machine."""
