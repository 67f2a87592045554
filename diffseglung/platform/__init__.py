"""What every part stands on: settings, errors, devices and threads, memory, files that are whole or not there."""
