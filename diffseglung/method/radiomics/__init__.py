"""The teacher: 34 handcrafted descriptors of lung texture."""
