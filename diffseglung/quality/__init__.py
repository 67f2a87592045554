"""Image quality of a scan, and warnings about results that it makes unreliable."""
