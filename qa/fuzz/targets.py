"""All readers of external files, with good files to start from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa.fuzz.mutations import Files


@dataclass(frozen=True)
class Target:
    """seeds: makes good files, some for each form of the format.  read: reads a folder of them as a command does."""

    name: str
    seeds: Callable[[Path], list[Files]]
    read: Callable[[Path], Any]


def taken(folder: Path) -> Files:
    """The files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def put(files: Files, folder: Path) -> None:
    """Write files below the folder, even if a name points outside it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _volume() -> Any:
    from diffseglung.volume import Volume

    hu = np.full((8, 9, 10), -1000, np.int16)
    hu[1:7, 1:8, 1:9] = 40
    hu[2:6, 2:7, 2:8] = -850
    return Volume(hu, np.array([[0, 0, 0.8, -3], [0, 0.8, 0, 5], [2.5, 0, 0, 7], [0, 0, 0, 1.0]]))


def nifti_seeds(folder: Path) -> list[Files]:
    import nibabel as nib

    from diffseglung.io.nifti import write_nifti

    volume = _volume()
    write_nifti(folder / "a.nii", volume)
    write_nifti(folder / "a.nii.gz", volume)
    scaled = nib.Nifti1Image(volume.array.T.astype(np.float64), np.diag([1.0, 1.0, 2.0, 1.0]))
    scaled.set_data_dtype(np.uint8)
    nib.save(scaled, folder / "scaled.nii")
    nib.save(nib.Nifti2Image(volume.array.T.astype(np.float32), np.eye(4)), folder / "two.nii.gz")
    return [{name: content} for name, content in taken(folder).items()]


def itk_seeds(folder: Path) -> list[Files]:
    import SimpleITK

    sitk: Any = SimpleITK
    image = sitk.GetImageFromArray(_volume().array)
    image.SetSpacing((0.8, 0.8, 2.5))
    for name, packed in (("a.nrrd", False), ("b.nrrd", True), ("c.mha", False), ("d.mha", True)):
        sitk.WriteImage(image, str(folder / name), packed)
    alone = [{name: content} for name, content in taken(folder).items()]
    for name, raw in (("e.mhd", "e.raw"), ("f.nhdr", "f.raw")):
        sitk.WriteImage(image, str(folder / name), False)
        alone.append({n: (folder / n).read_bytes() for n in (name, raw)})
    return alone


def dicom_seeds(folder: Path) -> list[Files]:
    from pydicom.uid import JPEGLSLossless, RLELossless

    from tests.io.conftest import write_series_of
    from tests.io.dicom.test_headers import enhanced

    volume = _volume()
    volume = volume.with_array(volume.array.astype(np.float32))
    write_series_of(folder / "plain", volume)
    for name, syntax in (("rle", RLELossless), ("ls", JPEGLSLossless)):
        write_series_of(folder / name, volume)
        import pydicom

        for path in (folder / name).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
    enhanced(folder / "many" / "ct.dcm")
    return [taken(folder / name) for name in ("plain", "rle", "ls", "many")]


def zip_seeds(folder: Path) -> list[Files]:
    from tests.io.conftest import write_series_of

    volume = _volume()
    write_series_of(folder / "s", volume.with_array(volume.array.astype(np.float32)))
    shutil.make_archive(str(folder / "a"), "zip", folder / "s")
    return [{"a.zip": (folder / "a.zip").read_bytes()}]


def npz_seeds(folder: Path) -> list[Files]:
    from diffseglung.io.npz import Case, write_case

    volume = _volume()
    case = Case("a__b", volume.with_array(volume.array.astype(np.float32)),
                volume.with_array((volume.array == -850).astype(np.uint8)), {"notes": ["one"]})  # fmt: skip
    for packed in (True, False):
        write_case(folder / f"a{packed}.npz", case, compress=packed)
    return [{"a.npz": content} for content in taken(folder).values()]


def mask_seeds(folder: Path) -> list[Files]:
    from diffseglung.io.mask_folder import SIDES
    from diffseglung.io.nifti import write_nifti

    volume = _volume()
    labels = volume.with_array((volume.array == -850).astype(np.uint8))
    write_nifti(folder / "m.nii.gz", labels, names={1: "lung"})
    alone = [{"m.nii.gz": (folder / "m.nii.gz").read_bytes()}, *npz_seeds(folder / "c")]
    for name in SIDES:
        write_nifti(folder / "sides" / f"{name}.nii.gz", labels)
    return [*alone, taken(folder / "sides")]


def _kept(*names: str) -> Callable[[Path], list[Files]]:
    """Seeds of the formats kept for compatibility."""

    def seeds(folder: Path) -> list[Files]:
        from tests.kept_formats import FOLDER

        newest = sorted(path for path in FOLDER.iterdir() if (path / "result").is_dir())[-1]
        found = []
        for name in names:
            path = newest / name
            found.append(taken(path) if path.is_dir() else {name: path.read_bytes()})
        return found

    return seeds


def record_seeds(folder: Path) -> list[Files]:
    files = _kept("result")(folder)[0]
    (labels,) = [content for name, content in files.items() if name == "label_map.nii.gz"]
    kept = {name: files[name] for name in ("run.json", "statistics.json")}
    return [{**kept, "label_map.nii.gz": labels}]


def table_seeds(folder: Path) -> list[Files]:
    from diffseglung.cohort import table

    rows = [dict.fromkeys(table.COLUMNS) | {"scan": f"s{i}", "status": "done", "lung_ml": 3000.5} for i in range(3)]
    table.write_tables(rows, folder)  # type: ignore[arg-type]
    table.write_failed(folder, {"s1": {"input": "x", "error": "y", "seconds": 1.0}})
    csv = {name: content for name, content in taken(folder).items() if name.endswith((".csv", ".json"))}
    return [{**csv, "options.yaml": b"queue: normal\ncores: 2\njob_extra_directives: ['--x']\n"}]


def card_seeds(folder: Path) -> list[Files]:
    from diffseglung.method.card import ModelCard
    from diffseglung.platform.config import UNETS, DistillConfig

    cards = [ModelCard(unet=UNETS["tiny"], distill=DistillConfig(), training={"a": [1]}), ModelCard(unet=UNETS["tiny"])]
    return [{"card.json": card.to_json().encode()} for card in cards]


def read_scan_of(folder: Path) -> None:
    """The only file, else the folder."""
    from diffseglung.io import read_scan

    names = [p for p in sorted(folder.iterdir()) if p.suffix not in (".raw",)]
    read_scan(names[0] if len(names) == 1 else folder)


def read_itk(folder: Path) -> None:
    from diffseglung.io import read_scan

    for path in sorted(folder.iterdir()):
        if path.suffix != ".raw":
            read_scan(path)


def read_dicom(folder: Path) -> None:
    """As `segment`, `cohort` and `info` do."""
    from diffseglung.io import read_scan
    from diffseglung.io.dicom.reader import list_series
    from diffseglung.io.studies import find_studies

    _all_of(lambda: read_scan(folder), lambda: [s.read() for s in find_studies(folder)], lambda: list_series(folder))


def read_zip(folder: Path) -> None:
    from diffseglung.io import archives, read_scan
    from diffseglung.io.studies import find_studies

    path = next(iter(sorted(folder.iterdir())))
    _all_of(lambda: read_scan(path), lambda: archives.read_identity(path), lambda: find_studies(folder))


def read_npz(folder: Path) -> None:
    from diffseglung.io import read_scan
    from diffseglung.io.npz import read_case

    for path in sorted(folder.iterdir()):
        _all_of(lambda path=path: read_scan(path), lambda path=path: read_case(path))  # type: ignore[misc]


def read_mask_of(folder: Path) -> None:
    from diffseglung.io import read_mask

    paths = sorted(folder.iterdir())
    read_mask(paths[0] if len(paths) == 1 else folder)


def read_model(folder: Path) -> None:
    """As `segment --model` does, without labelling."""
    from diffseglung.tissue.bundle import load_bundle

    for path in sorted(folder.iterdir()):
        load_bundle(path)


def read_state(folder: Path) -> None:
    from diffseglung.method.train.state import load_state

    for path in sorted(folder.iterdir()):
        load_state(path)


def read_patches(folder: Path) -> None:
    """As `train` and `benchmark --generation` do: open, and draw a batch."""
    from diffseglung.method.train.data import Draws, open_patches
    from diffseglung.platform.config import DistillConfig, TrainConfig
    from diffseglung.training.precompute import patch_settings

    patches = open_patches(folder)
    patch_settings(patches)
    for loss in ("local", "published"):
        Draws(patches, TrainConfig(batch_size=2), 10, patches.teacher(DistillConfig(loss=loss))).batch(1)


def read_record(folder: Path) -> None:
    """As `rerun` and `view` do."""
    from diffseglung.output.record import read
    from diffseglung.viewer.contents import gather

    _all_of(lambda: read(folder), lambda: gather(folder))


def read_table(folder: Path) -> None:
    """As `cohort` does when it continues, or rebuilds its page."""
    from diffseglung.cohort import cluster, table

    _all_of(lambda: table.read_table(folder), lambda: table.read_failed(folder),
            lambda: cluster.read_options(folder / "options.yaml"))  # fmt: skip


def read_card(folder: Path) -> None:
    from diffseglung.method.card import ModelCard

    for path in sorted(folder.iterdir()):
        ModelCard.from_json(path.read_text(encoding="utf-8", errors="replace"))


def _all_of(*acts: Callable[[], Any]) -> None:
    """Call each; the first error of the package is raised at the end."""
    from diffseglung.platform.errors import DiffSegLungError

    first: DiffSegLungError | None = None
    for act in acts:
        try:
            act()
        except DiffSegLungError as error:
            first = first or error
    if first is not None:
        raise first


TARGETS = (
    Target("NIfTI", nifti_seeds, read_scan_of),
    Target("NRRD and MetaImage", itk_seeds, read_itk),
    Target("NPZ case", npz_seeds, read_npz),
    Target("DICOM", dicom_seeds, read_dicom),
    Target("ZIP of DICOM", zip_seeds, read_zip),
    Target("masks", mask_seeds, read_mask_of),
    Target("weights", _kept("model.pt", "model.safetensors"), read_model),
    Target("model card", card_seeds, read_card),
    Target("training state", _kept("last.pt"), read_state),
    Target("training patches", _kept("patches"), read_patches),
    Target("run.json and results", record_seeds, read_record),
    Target("cohort tables and options", table_seeds, read_table),
)


def seeds_of(target: Target) -> list[Files]:
    """Good files of a target."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return target.seeds(Path(folder))
