"""What is measured of a scan to tell how far its result can be trusted."""
