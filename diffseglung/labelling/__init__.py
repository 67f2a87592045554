"""From descriptors and components to tissue names."""
