"""Both notebooks run from top to bottom: the tour on a reduced chest, kept without results; the equations as kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
TOUR, EQUATIONS = FOLDER / "quickstart.ipynb", FOLDER / "equations.ipynb"
PHANTOM = '["phantom", '
"""Where the tour makes its chest: the test asks for a small one."""
ORDER = (
    "Intensity", "Forward noising", "Denoising loss", "Radiomic teacher", "InfoNCE", "Feature extraction",
    "Gaussian mixture", "Names by HU", "Sobel-Diffusion Fusion",
)  # fmt: skip
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def read(path: Path) -> Any:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(notebook: Any, folder: Path) -> Any:
    nbclient = pytest.importorskip("nbclient")
    return nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_there_are_two() -> None:
    assert sorted(FOLDER.glob("*.ipynb")) == [EQUATIONS, TOUR]


@pytest.mark.filterwarnings("ignore")
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = read(TOUR)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (chest,) = [cell for cell in notebook.cells if cell.cell_type == "code" and PHANTOM in cell.source]
    chest.source = chest.source.replace(PHANTOM, PHANTOM + '"--size", "small", ')
    done = execute(notebook, tmp_path)
    assert "Dice" in printed(done)
    assert pictures(done) == 1


def test_the_tour_is_kept_clean() -> None:
    code = [cell for cell in read(TOUR).cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.filterwarnings("ignore")
def test_the_equations_run_and_give_the_results_that_are_kept() -> None:
    """The same words, and numbers within a tenth of those kept: versions of the libraries may differ a little."""
    kept, done = read(EQUATIONS), execute(read(EQUATIONS), FOLDER)
    assert all(output.get("name") != "stderr" for output in outputs(done))
    assert NUMBER.sub("#", printed(done)).split() == NUMBER.sub("#", printed(kept)).split()
    wanted = [float(number) for number in NUMBER.findall(printed(kept))]
    found = [float(number) for number in NUMBER.findall(printed(done))]
    assert found == pytest.approx(wanted, rel=0.1, abs=0.05)
    assert pictures(done) == pictures(kept)


def test_each_equation_is_kept_with_its_formula_code_and_result() -> None:
    notebook = read(EQUATIONS)
    sections = [cell.source for cell in notebook.cells if cell.source.startswith("## ")]
    assert [section.splitlines()[0].partition(" ")[2] for section in sections] == [
        f"{number} {title}" for number, title in enumerate(("The patch", *ORDER))
    ]
    assert all(section.count("$$") >= 2 for section in sections[1:])
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(sections) + 1))
    assert all(cell.outputs for cell in code)


def test_the_kept_results_are_small_and_tell_nothing_of_a_machine() -> None:
    assert EQUATIONS.stat().st_size < 1_500_000
    notebook = read(EQUATIONS)
    told = printed(notebook) + "".join(output.get("data", {}).get("text/plain", "") for output in outputs(notebook))
    assert not re.search(r"/\w+/|[A-Z]:\\|\d{4}-\d\d-\d\d", told)
    assert not any("execution" in cell.metadata for cell in notebook.cells)
