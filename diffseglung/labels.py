"""Labels of the label map: id, name, colour. Meanings follow the Fleischner Society glossary.

Hansell et al., Radiology 2008;246:697. GGO is hazy and leaves vessel and bronchial margins visible; consolidation
obscures them; fibrosis here is reticulation, traction bronchiectasis and honeycombing; emphysema is low attenuation
without walls.

>>> [(label.id, label.name) for label in TISSUES]
[(1, 'healthy'), (2, 'emphysema'), (3, 'ggo'), (4, 'fibrosis'), (5, 'consolidation')]
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """One label: `id` in the label map, `name` in files, `colour` as RGB 0..255, from a colour-blind safe palette."""

    id: int
    name: str
    title: str
    colour: tuple[int, int, int]


BACKGROUND = Label(0, "background", "Background", (0, 0, 0))
HEALTHY = Label(1, "healthy", "Healthy lung", (130, 190, 230))
EMPHYSEMA = Label(2, "emphysema", "Emphysema", (0, 90, 181))
GGO = Label(3, "ggo", "Ground-glass opacity", (240, 228, 66))
FIBROSIS = Label(4, "fibrosis", "Fibrosis", (204, 121, 167))
CONSOLIDATION = Label(5, "consolidation", "Consolidation", (213, 60, 0))
UNASSIGNED = Label(6, "unassigned", "Unassigned", (150, 150, 150))

TISSUES = (HEALTHY, EMPHYSEMA, GGO, FIBROSIS, CONSOLIDATION)
"""The five classes in posterior order: posterior column k is TISSUES[k], whose id is k + 1."""
LESIONS = TISSUES[1:]
ALL = (BACKGROUND, *TISSUES, UNASSIGNED)
BY_NAME = {label.name: label for label in ALL}
