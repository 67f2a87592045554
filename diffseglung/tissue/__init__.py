"""From positions of the lung to tissue: local descriptors, the physics rule, classifiers, and the table of methods."""
