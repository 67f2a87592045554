"""The label map's names and colours for viewers that read them from a file of their own.

`label_map.ctbl` is a colour table of 3D Slicer: one `number name red green blue alpha` a line, names without blanks.
`label_map.label.txt` is a label description of ITK-SNAP: `IDX R G B A VIS MSH "LABEL"`, A from 0 to 1.
"""

from __future__ import annotations

from diffseglung.labels import ALL, BACKGROUND

SLICER, SNAP = "label_map.ctbl", "label_map.label.txt"
_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def slicer_table() -> str:
    """Every label of `diffseglung.labels`, the background transparent."""
    rows = ["# Color table file of DiffSegLung: number name red green blue alpha"]
    for label in ALL:
        alpha = 0 if label is BACKGROUND else 255
        rows.append(f"{label.id} {label.title.replace(' ', '_')} {' '.join(map(str, label.colour))} {alpha}")
    return "\n".join(rows) + "\n"


def snap_table() -> str:
    """The same for ITK-SNAP, whose label 0 is `Clear Label`."""
    rows = []
    for label in ALL:
        red, green, blue = label.colour
        seen = 0 if label is BACKGROUND else 1
        name = "Clear Label" if label is BACKGROUND else label.title
        rows.append(f'{label.id:5d} {red:5d} {green:4d} {blue:4d}  {seen:7d}  {seen}  {seen}    "{name}"')
    return _SNAP_HEAD + "\n".join(rows) + "\n"
