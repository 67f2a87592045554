"""Mutation testing: change the package one line at a time, and check that its tests notice.

    python qa/mutants.py --promises             a fixed list of lines behind promises, each with the test that must fail
    python qa/mutants.py [--each 30] [FILE...]  random mutants of the scientific core, drawn by --seed

Each mutant is made alone in a temporary copy of the repository; the tests of its module run until one fails. Exit code
1 if the test of a promise passes on its mutant. Surviving mutants are listed for review: see docs/reliability.md.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("diffseglung", "studies", "qa", "tests", "scripts", "pyproject.toml")

CORE = {
    "method/mixture.py": "tests/method/test_mixture.py",
    "method/features.py": "tests/method/test_features.py",
    "method/samplers.py": "tests/method/test_samplers.py",
    "method/diffusion.py": "tests/method/test_diffusion.py",
    "method/radiomics/firstorder.py": "tests/method/radiomics/test_firstorder.py",
    "method/radiomics/glcm.py": "tests/method/radiomics/test_glcm.py",
    "method/radiomics/lbp.py": "tests/method/radiomics/test_lbp.py",
    "method/radiomics/gabor.py": "tests/method/radiomics/test_gabor.py",
    "method/distillation.py": "tests/method/test_distillation.py",
    "method/fusion.py": "tests/method/test_fusion.py",
    "volume.py": "tests/test_volume.py",
    "case/resample.py": "tests/case/test_resample.py",
    "io/dicom/grid.py": "tests/io/dicom/test_grid.py",
    "output/statistics.py": "tests/output/test_statistics.py",
}
"""Module of the scientific core -> its tests."""

LIBRARIES = (
    "pytest", "SimpleITK", "nibabel", "pydicom", "scipy.integrate", "scipy.ndimage", "scipy.optimize", "scipy.signal",
    "scipy.stats", "skimage.feature", "skimage.filters", "sklearn.mixture", "torch",
)  # fmt: skip
"""Libraries of these tests, loaded once for all runs."""

SPEED = ("BLOCK", "CHUNK", "LANES", "TILE")
"""Constants of the core that affect speed only."""

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Promise:
    """A line behind a promise, its replacement, and the test that must then fail."""

    says: str
    file: str
    text: str
    instead: str
    test: str


PROMISES = (
    Promise(
        "results lie on the grid of the scan: other grids are refused", "volume.py",
        "return bool(np.abs(gap).max() <= tolerance_mm)", "return True",
        "tests/test_volume.py::test_same_grid_looks_at_every_corner",
    ),
    Promise(
        "a crop stays at its place in the patient", "volume.py",
        "affine[:3, 3] += affine[:3, :3] @ np.asarray(low, np.float64)", "pass",
        "tests/test_volume.py::test_a_crop_stays_where_it_was",
    ),
    Promise(
        "stored along other axes, a voxel stays at its place", "volume.py",
        "affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)", "pass",
        "tests/test_volume.py::test_reorienting_moves_no_voxel_in_the_patient",
    ),
    Promise(
        "measuring across grids is refused", "output/statistics.py",
        "if not ct.same_grid(other):", "if False:",
        "tests/output/test_statistics.py::test_grids_that_differ_are_refused",
    ),
    Promise(
        "unknown is null, never 0", "output/statistics.py",
        "mean = _round(total_hu / count, 2) if count else None", "mean = _round(total_hu / max(count, 1), 2)",
        "tests/output/test_statistics.py::test_what_is_absent_is_null_not_zero",
    ),
    Promise(
        "labels are never interpolated between: their type stays", "case/resample.py",
        "dtype = array.dtype if order == 0 else np.dtype(np.float32)", "dtype = np.dtype(np.float32)",
        "tests/case/test_resample.py::test_labels_keep_their_type",
    ),
    Promise(
        "a file is there whole or not at all", "platform/atomic_files.py",
        "        yield part\n        _flush(part)", "        yield path\n        return",
        "tests/platform/test_atomic_files.py::test_a_failure_leaves_what_was_there",
    ),
    Promise(
        "an error leaves nothing half-made behind", "platform/atomic_files.py",
        "    finally:\n        shutil.rmtree(part, ignore_errors=True)", "    finally:\n        pass",
        "tests/output/test_output.py::test_an_error_on_the_way_leaves_the_older_result_and_nothing_else",
    ),
    Promise(
        "an older result goes whole when a new one comes", "output/__init__.py",
        "(target / name).unlink(missing_ok=True)", "pass",
        "tests/output/test_output.py::test_an_older_result_is_replaced_whole_and_other_files_stay",
    ),
    Promise(
        "pickled code never runs", "method/checkpoint.py",
        "weights_only=True)", "weights_only=False)",
        "tests/method/test_checkpoint.py::test_pickled_code_never_runs",
    ),
    Promise(
        "a patch gets the same noise in any batch", "method/samplers.py",
        "patch_noise(shape, seed, index, step) for index in indices",
        "patch_noise(shape, seed, place, step) for place, _ in enumerate(indices)",
        "tests/method/test_samplers.py::test_a_patch_gets_the_same_noise_in_any_batch",
    ),
    Promise(
        "one run at a time in a cohort's folder, and what a killed one left half-made goes", "cohort/plan.py",
        "atomic_files.sweep(output, everybody=True)", "pass",
        "tests/cohort/test_plan.py::test_one_run_at_a_time_and_no_half_made_rest",
    ),
    Promise(
        "a mark of a result holds no path, which may name a patient", "cohort/plan.py",
        'hashlib.sha256(os.fsencode(study.path.resolve())).hexdigest()[:16]', "str(study.path.resolve())",
        "tests/cohort/test_plan.py::test_a_mark_holds_no_path",
    ),
)  # fmt: skip


class Copy:
    """A copy of the repository in which one file at a time is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, folder / name)

    def fails(self, tests: Sequence[str], *, file: str | None = None, source: str = "", limit_s: float = 120) -> bool:
        """Whether the tests fail when a file of the package holds `source`; a hanging test counts as failed."""
        if file is None:
            code = _run(self.folder, tests, limit_s)
            if code in (3, 4, 5):
                raise SystemExit(f"error: pytest could not run {' '.join(tests)} (exit code {code})")
            return code != 0
        path = self.folder / "diffseglung" / file
        before = path.read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        try:
            return _run(self.folder, tests, limit_s) != 0
        finally:
            path.write_text(before, encoding="utf-8")


def _run(folder: Path, tests: Sequence[str], limit_s: float) -> int | None:
    """The exit code of pytest, None if it hangs, in a fork of this process, which has not imported the package.

    Random draws of the tests are the same for every mutant, and no state is kept between mutants.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-o", "addopts="]
        options += ["--import-mode=importlib", "--hypothesis-seed=0", "-m", "not slow and not gpu"]
        os._exit(int(pytest.main([*options, *tests])))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def mutants(source: str) -> list[tuple[int, str, str]]:
    """All mutants of a module as (line, description, source).

    Without what no result depends on: arguments of decorators, annotations, messages, `strict` of `zip`, and SPEED.
    """
    tree, found = ast.parse(source), []
    left_out = {id(n) for part in _left_out(tree) for n in ast.walk(part)}
    for index, node in enumerate(ast.walk(tree)):
        for change in range(0 if id(node) in left_out else len(list(_changes(node)))):
            other = copy.deepcopy(tree)
            twin = next(n for i, n in enumerate(ast.walk(other)) if i == index)
            shown = _shown(twin, other)
            before = ast.unparse(shown)
            if isinstance(twin, ast.Call):
                before = ast.unparse(twin.func) + "(...)" if len(before) > 90 else before
            for number, _ in enumerate(_changes(twin)):
                if number == change:
                    break
            after = ast.unparse(shown)
            text = f"{before[:90]}  ->  {after[:90]}"
            found.append((getattr(node, "lineno", 0), text.replace("\n", " "), ast.unparse(other)))
    return found


def _shown(node: ast.AST, tree: ast.AST) -> ast.AST:
    """The node, or the expression that contains a constant."""
    if not isinstance(node, ast.Constant):
        return node
    return next((n for n in ast.walk(tree) if node in ast.iter_child_nodes(n) and len(ast.unparse(n)) < 90), node)


def _left_out(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield from node.decorator_list
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation:
            yield node.annotation
        if isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns
        if isinstance(node, ast.JoinedStr):
            yield node
        if isinstance(node, ast.keyword) and node.arg == "strict":
            yield node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in SPEED:
            yield node


def _changes(node: ast.AST) -> Iterator[None]:
    """Apply each possible change of a node in turn; each is undone before the next."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
        kept = node.ops
        node.ops = [COMPARED[type(kept[0])]()]
        yield
        node.ops = kept
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in COUNTED:
        if isinstance(node, ast.BinOp) and type(node.op) is ast.BitOr and "None" in ast.unparse(node):
            return  # a type
        operator = node.op
        node.op = COUNTED[type(operator)]()
        yield
        node.op = operator
    elif isinstance(node, ast.BoolOp):
        joined = node.op
        node.op = ast.Or() if isinstance(joined, ast.And) else ast.And()
        yield
        node.op = joined
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        node.value = (not value) if isinstance(value, bool) else value + 1
        yield
        node.value = value
    elif isinstance(node, ast.Call) and node.keywords:
        keywords = node.keywords
        for number, keyword in enumerate(keywords):
            if keyword.arg == "strict":
                continue
            node.keywords = keywords[:number] + keywords[number + 1 :]
            yield
        node.keywords = keywords
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        returned = node.value
        node.value = ast.Constant(None)
        yield
        node.value = returned


def keep_promises(work: Copy) -> int:
    """Number of promises whose test passes although their line was changed."""
    tests = list(dict.fromkeys(p.test for p in PROMISES))
    if work.fails(tests, limit_s=600):
        raise SystemExit("error: the tests of the promises fail without any mutant")
    unkept = 0
    for promise in PROMISES:
        source = (work.folder / "diffseglung" / promise.file).read_text(encoding="utf-8")
        if source.count(promise.text) != 1:
            raise SystemExit(f"error: {promise.file} holds {source.count(promise.text)} times: {promise.text}")
        failed = work.fails([promise.test], file=promise.file, source=source.replace(promise.text, promise.instead))
        unkept += not failed
        print(f"{'fails' if failed else 'PASSES'}  {promise.says}: {promise.test}", flush=True)
    return unkept


def survey(work: Copy, files: Sequence[str], each: int, seed: int, minutes: float) -> None:
    """Print a table of killed and surviving mutants, and the survivors to stderr."""
    end = time.monotonic() + 60 * minutes
    print("| module | possible | tried | killed | survived |\n|---|---|---|---|---|")
    for file in files:
        if (begin := time.monotonic()) > end:
            break
        if work.fails([CORE[file]], limit_s=300):
            raise SystemExit(f"error: {CORE[file]} fails without any mutant")
        limit_s = 10 + 5 * (time.monotonic() - begin)
        possible = mutants((work.folder / "diffseglung" / file).read_text(encoding="utf-8"))
        drawn = sorted(random.Random(f"{seed} {file}").sample(possible, min(each, len(possible))))
        tried, alive = 0, []
        for line, text, source in drawn:
            if time.monotonic() > end:
                break
            tried += 1
            if not work.fails([CORE[file]], file=file, source=source, limit_s=limit_s):
                alive.append(f"- `{file}:{line}`: `{text}`")
        print(f"| {file} | {len(possible)} | {tried} | {tried - len(alive)} | {len(alive)} |", flush=True)
        print("\n".join(alive), file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of {', '.join(CORE)} (default: all)")
    parser.add_argument("--promises", action="store_true", help="check the fixed list of promises")
    parser.add_argument("--each", type=int, default=30, metavar="N", help="mutants per module (default: 30)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the selection (default: 0)")
    parser.add_argument("--minutes", type=float, default=35.0, metavar="N", help="time limit (default: 35)")
    options = parser.parse_args()
    if unknown := set(options.files) - set(CORE):
        parser.error(f"no such module of the core: {', '.join(sorted(unknown))}")
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        work = Copy(Path(folder))
        if options.promises:
            return 1 if keep_promises(work) else 0
        survey(work, options.files or list(CORE), options.each, options.seed, options.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
