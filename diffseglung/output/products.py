"""The files of a result: which are requested, and which of them failed without affecting the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from diffseglung.platform.errors import DiffSegLungError, OutputError


@dataclass(frozen=True)
class Products:
    """The files that `write` makes beside label_map.nii.gz and run.json.  dicom: keys of `output.dicom.NAMES`."""

    statistics: bool = True
    preview: bool = True
    report: bool = True
    probabilities: bool = False
    dicom: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempts:
    """folder: where the files are made.  failed: file name -> its error."""

    folder: Path
    failed: dict[str, Exception] = field(default_factory=dict)

    @contextmanager
    def at(self, *names: str) -> Iterator[None]:
        """An error inside the block removes these files, and is kept for `require` instead of being raised.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     attempts = Attempts(Path(folder))
        ...     with attempts.at("preview.png"):
        ...         raise MemoryError
        >>> attempts.failed
        {'preview.png': MemoryError()}
        """
        try:
            yield
        except Exception as cause:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
                self.failed[name] = cause

    def require(self, files: Sequence[Path]) -> None:
        """Raises OutputError if any file failed.  files: those that were made."""
        if not self.failed:
            return
        names: dict[str, list[str]] = {}
        for name, cause in self.failed.items():
            names.setdefault(_reason(cause), []).append(name)
        first = next(iter(self.failed.values()))
        remedy = first.remedy if isinstance(first, DiffSegLungError) else "leave them out, or use --debug for details"
        failures = "; ".join(f"{', '.join(those)} could not be made ({reason})" for reason, those in names.items())
        raise OutputError(f"{failures}; the other files are complete", remedy=remedy, files=files) from first


def _reason(cause: Exception) -> str:
    """Not the text of unexpected errors, which may quote what a header says about the patient."""
    if isinstance(cause, DiffSegLungError):
        return cause.problem
    return getattr(cause, "strerror", None) or type(cause).__name__
