"""Files of a result that may fail without costing the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from diffseglung.platform.errors import DiffSegLungError, OutputError


@dataclass(frozen=True)
class Attempts:
    """folder: where the files are made.  failed: name of a file -> what went wrong."""

    folder: Path
    failed: dict[str, Exception] = field(default_factory=dict)

    @contextmanager
    def at(self, *names: str) -> Iterator[None]:
        """An error inside costs these files and no others; what is half-made of them goes."""
        try:
            yield
        except Exception as cause:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
                self.failed[name] = cause

    def require(self, files: Sequence[Path]) -> None:
        """Raises OutputError where any failed.  files: those that were made."""
        if not self.failed:
            return
        names: dict[str, list[str]] = {}
        for name, cause in self.failed.items():
            names.setdefault(_reason(cause), []).append(name)
        first = next(iter(self.failed.values()))
        remedy = first.remedy if isinstance(first, DiffSegLungError) else "leave them out, or look closer with --debug"
        told = "; ".join(f"{', '.join(those)} could not be made ({reason})" for reason, those in names.items())
        raise OutputError(f"{told}; the other files are complete", remedy=remedy, files=files) from first


def _reason(cause: Exception) -> str:
    """Without the text of errors that nobody foresaw: it may hold what a header tells of the patient."""
    if isinstance(cause, DiffSegLungError):
        return cause.problem
    return getattr(cause, "strerror", None) or type(cause).__name__
