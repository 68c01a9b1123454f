"""The hash of a rule's code: what computes counts, wherever it lies; what code says does not."""

import ast
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from unet.run.code_digest import DOES_NOT_COMPUTE, PACKAGE, code_digest, definitions_of

SCRIPTS = sorted((PACKAGE.parent / "scripts").glob("*.py"))
NO_DIGEST = {"plan", "verify", "view"}
"""Rules that run whenever they are asked for."""


# One file

SOURCE = '''
"""About."""
import logging
import unet.geometry.box
from unet.geometry.pyramid import downsample as half, pyramid_factors

log = logging.getLogger(__name__)
LIMIT: int = 3
"""Of what."""

class Pair:
    """Two."""
    a: int
    b: float = 2

def f(x: int, w: int = 4) -> int:
    """Doc."""
    log.info("doing %s", x)
    if x > LIMIT:
        raise ValueError(f"{x} is more than {LIMIT}" + "; take less")
    name = f"{x!r:>{w}}-" "{}"
    title(name, title="A page", size=2)
    match x:
        case 1 | 2:
            half(x)
        case [*_]:
            x[1:, ::2] = yield
    return x + LIMIT
'''


def digest(folder: Path, source: str) -> str:
    """Return the digest of a script with this content. Each has its own folder: files are read once per process."""
    folder.mkdir()
    (folder / "script.py").write_text(source)
    return code_digest(folder / "script.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT: int = 3", "LIMIT: int = 4"),
        ("x + LIMIT", "x - LIMIT"),
        ("downsample as half", "pyramid_factors as half"),
        ("w: int = 4", "w: int = 5"),
        ("!r:>", "!s:>"),
        ("}-", "}+"),
        ("size=2", "size=3"),
        ("raise ValueError", "raise KeyError"),
        ("x > LIMIT", "x >= LIMIT"),
        ("::2", "::3"),
        ("case 1 | 2", "case 1"),
        ("b: float = 2", "b: float = 3"),
        ("    a: int\n", ""),
    ],
)
def test_what_computes_changes_the_digest(tmp_path: Path, before: str, after: str) -> None:
    assert before in SOURCE
    assert digest(tmp_path / "a", SOURCE) != digest(tmp_path / "b", SOURCE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("About.", "Another."),
        ("Doc.", "Longer doc."),
        ("Of what.", "Of that."),
        ("LIMIT: int = 3", "LIMIT  : int=  3  # px"),
        ("doing %s", "working on %s"),
        ('    log.info("doing %s", x)\n', ""),
        ("is more than {LIMIT}", "exceeds {LIMIT + 0}"),
        ("; take less", "; take fewer"),
        ("A page", "One page"),
        ("x: int", "x: float"),
        (") -> int:", "):"),
        ("import unet.geometry.box\n", ""),
        ("import unet.geometry.box\n", "import unet.geometry.box\nfrom unet.storage.locks import lock_shared\n"),
    ],
)
def test_what_code_says_does_not(tmp_path: Path, before: str, after: str) -> None:
    assert before in SOURCE
    assert digest(tmp_path / "a", SOURCE) == digest(tmp_path / "b", SOURCE.replace(before, after))


def test_the_digest_is_that_of_every_python(tmp_path: Path) -> None:
    source = SOURCE.replace("from unet.geometry.pyramid import downsample as half, pyramid_factors\n", "")
    assert digest(tmp_path / "a", source) == "0ac538dde1ad9285"


def test_a_function_that_is_only_its_docstring_is_one_that_does_nothing(tmp_path: Path) -> None:
    empty, other = (digest(tmp_path / text, f'def f():\n    """{text}"""\n') for text in ("Doc.", "Another."))
    assert empty == other != digest(tmp_path / "c", "def g():\n    pass\n")


# A package


def package_of(folder: Path, **files: str) -> Path:
    """A package `unet` of some files, named with `__` for a sub-package, and a script beside it."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for inner in {path.parent for path in (folder / "unet").rglob("*.py")}:
        (inner / "__init__.py").touch()
    return folder


IMPORTS = {
    "of a sub-package": "from unet.net.model import f\nf()\n",
    "under another name": "from unet.net.model import f as g\ng()\n",
    "of a module": "from unet.net import model\nmodel.f()\n",
    "by the full name": "import unet.net.model\nunet.net.model.f()\n",
    "of a module under another name": "import unet.net.model as m\nm.f()\n",
    "in a function": "def main():\n    from unet.net.model import f\n    f()\n",
    "by way of a package": "from unet.api import f\nf()\n",
    "by way of a relative import": "from unet.net.near import near\nnear()\n",
    "of a module as a value": "from unet.net import model\nprepare(model)\n",
}


@pytest.mark.parametrize("script", IMPORTS.values(), ids=IMPORTS)
def test_every_way_to_import_is_followed(tmp_path: Path, script: str) -> None:
    def of(name: str, inner: str, other: str = "1") -> str:
        model = f"def f():\n    return g()\ndef g():\n    return {inner}\ndef h():\n    return {other}\n"
        folder = package_of(
            tmp_path / name,
            script=script,
            unet__net__model=model,
            unet__net__near="def near():\n    from .model import f\n    from ..api import g\n    return f() + g()",
            unet__api="from unet.net.model import f\ndef g():\n    return 0",
        )
        return code_digest(folder / "script.py", folder / "unet")

    assert of("a", inner="1") == of("b", inner="1  # one") != of("c", inner="2")
    if "value" not in script and "prepare" not in script:
        assert of("d", inner="1") == of("e", inner="1", other="2")


def test_statements_that_define_nothing_count_with_their_module(tmp_path: Path) -> None:
    def of(name: str, statement: str) -> str:
        script, module = "from unet.a import f\nf()\n", f"def f():\n    pass\n{statement}\n"
        folder = package_of(tmp_path / name, script=script, unet__a=module)
        return code_digest(folder / "script.py", folder / "unet")

    assert of("a", "register(1)") != of("b", "register(2)")
    assert of("c", 'if __name__ == "__main__":\n    f(1)') == of("d", 'if __name__ == "__main__":\n    f(2)')


def test_of_a_section_its_properties_count_and_its_fields_do_not(tmp_path: Path) -> None:
    section = """
class Inner(Section):
    size: int = Field(default=3, description="of what")

    @property
    def double(self) -> int:
        return 2 * self.size

class Outer(Section):
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _fits(self):
        return self
"""

    def of(name: str, before: str = "", after: str = "") -> str:
        script = "from unet.config.root import Outer\ndef main(outer: Outer):\n    return outer.inner.double\n"
        folder = package_of(tmp_path / name, script=script, unet__config=section.replace(before, after))
        return code_digest(folder / "script.py", folder / "unet")

    assert of("a") == of("b", "default=3", "default=4") == of("c", "of what", "of that") == of("d", "_fits", "_matches")
    assert of("a") != of("e", "2 * self", "3 * self")


def test_a_star_import_is_refused(tmp_path: Path) -> None:
    folder = package_of(tmp_path, script="from unet.a import *\n", unet__a="")
    with pytest.raises(ValueError, match=r"script.py: import the names of unet.a one by one"):
        code_digest(folder / "script.py", folder / "unet")


def test_a_sub_package_without_its_init_is_followed(tmp_path: Path) -> None:
    def of(name: str, value: str) -> str:
        script, module = "from unet.net.model import f\nf()\n", f"def f():\n    return {value}\n"
        folder = package_of(tmp_path / name, script=script, unet__net__model=module)
        (folder / "unet" / "net" / "__init__.py").unlink()
        return code_digest(folder / "script.py", folder / "unet")

    assert of("a", "1") != of("b", "2")


def test_an_import_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    folder = package_of(tmp_path, script="from unet.gone import f\nf()\n", unet__a="")
    with pytest.raises(ValueError, match=r"unet.gone.f is imported, but .* has no gone"):
        code_digest(folder / "script.py", folder / "unet")


# This package


def digests(root: Path) -> dict[str, str]:
    """Return the digests of all scripts whose rule has one."""
    scripts = sorted((root / "scripts").glob("*.py"))
    return {path.stem: code_digest(path, root / "unet") for path in scripts if path.stem not in NO_DIGEST}


@cache
def present() -> dict[str, str]:
    """Digests of the package as it is."""
    return digests(PACKAGE.parent)


def changed(root: Path) -> set[str]:
    """Rules whose digest in a copy is another one."""
    found = digests(root)
    return {rule for rule, digest in present().items() if digest != found[rule]}


def copied(folder: Path, change: Callable[[Path], None] = lambda root: None) -> Path:
    """A changed copy of package and scripts."""
    for name in ("unet", "scripts"):
        shutil.copytree(PACKAGE.parent / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    change(folder)
    return folder


def edited(module: str, *functions: str) -> Callable[[Path], None]:
    """One more statement in some functions of a module; written anew, so its layout and comments change as well."""

    def edit(root: Path) -> None:
        path = root / f"{module.replace('.', '/')}.py"
        tree = ast.parse(path.read_text())
        nodes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for name in functions:
            nodes[name].body += ast.parse("edited = True").body
        path.write_text(ast.unparse(tree))

    return edit


def replaced(name: str, before: str, after: str) -> Callable[[Path], None]:
    """A text of a file by another one."""

    def edit(root: Path) -> None:
        path = root / name
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))

    return edit


CLASS_NAMES = {"check_labels", "evaluate", "ingest", "objects", "report", "survey", "targets"}
OF_EDITS = {
    ("unet.training.synthetic", "synthesise"): {"sample"},
    ("unet.volumes.sources", "check_raw"): {"survey", "ingest"},
    ("unet.config.label_kinds", "class_map"): {"ingest"},
    ("unet.volumes.intensity", "intensity_statistics"): {"intensity_statistics"},
    ("unet.volumes.histogram", "rows_of"): {"histogram"},
    ("unet.network.compatibility", "require_compatible_model"): {"check_model"},
    ("unet.training.label_counts", "count_labels"): {"check_labels"},
    ("unet.training.weight_map", "class_weights"): {"weight_map"},
    ("unet.config.label_kinds", "class_names"): CLASS_NAMES,
    ("unet.training.loss", "weighted_cross_entropy"): {"train"},
    ("unet.training.augmentation", "draw_transform"): {"augmentation_preview", "train"},
    ("unet.network.model", "build_model"): {"export", "predict", "train"},
    ("unet.evaluation.isbi", "v_rand_v_info"): {"evaluate", "threshold_sweep", "train"},
    ("unet.evaluation.scores", "mean_scores"): {"threshold_sweep", "choose_threshold"},
    ("unet.segmentation.components", "label_block"): {"segment"},
    ("unet.segmentation.watershed", "watershed_block"): {"candidate_fragments", "segment"},
    ("unet.segmentation.region_graph", "block_edges"): {"candidate_graph", "region_graph"},
    ("unet.segmentation.agglomeration", "agglomerate"): {
        *("agglomeration_threshold_sweep", "decoder_sweep", "merge", "merge_part"),
    },
    ("unet.evaluation.decoders", "curves_of"): {"choose_decoder"},
    ("unet.segmentation.suspected_merges", "large_parts"): {"suspected_merges"},
    ("unet.evaluation.threshold_curve", "threshold_curve"): {"choose_agglomeration_threshold", "choose_decoder"},
    ("unet.segmentation.merge_table", "relabel"): {"relabel"},
    ("unet.measurement.object_sums", "probability_levels"): {"measure"},
    ("unet.measurement.object_table", "object_table"): {"objects"},
    ("unet.measurement.surface_faces", "block_faces"): {"surface_faces", "meshes"},
    ("unet.measurement.meshes", "smooth"): {"meshes"},
    ("unet.measurement.skeletons", "tree_of"): {"skeletons"},
    ("unet.network.export", "to_onnx"): {"export"},
    ("unet.run.report.page", "render"): {"report"},
    ("unet.volumes.writers.tiff_stack", "_sections"): {"export_tiff"},
    ("unet.volumes.writers.precomputed", "shard_shape"): {"export_precomputed"},
    ("unet.volumes.writers.wkw_dataset", "_layer"): {"export_webknossos"},
}


@pytest.mark.parametrize(("where", "rules"), OF_EDITS.items(), ids=[".".join(where) for where in OF_EDITS])
def test_an_edit_of_a_function_changes_the_rules_that_use_it(
    tmp_path: Path, where: tuple[str, str], rules: set[str]
) -> None:
    assert changed(copied(tmp_path, edited(*where))) == rules


def test_the_edits_are_of_every_rule() -> None:
    assert set.union(*OF_EDITS.values()) == present().keys()


NOTHING = {
    "copied": lambda root: None,
    "locks": replaced("unet/storage/locks.py", "POLL_S = 0.5", "POLL_S = 0.4"),
    "progress": edited("unet.jobs.progress", "advance"),
    "job": edited("unet.jobs.script", "run_script"),
    "journal": edited("unet.jobs.journal", "finished"),
    "scheduling": edited("unet.jobs.pipeline", "run_pipeline"),
    "a plan": edited("unet.run.plan.plan", "plan_run"),
    "a version": replaced("unet/__init__.py", "__version__", "__version__: str"),
    "a default": replaced("unet/config/train.py", "description=", "deprecated=False, description="),
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_what_does_not_compute_changes_nothing(tmp_path: Path, change: Callable[[Path], None]) -> None:
    assert changed(copied(tmp_path, change)) == set()


def test_what_the_package_says_changes_nothing(tmp_path: Path) -> None:
    def reworded(root: Path) -> None:
        for path in [*root.rglob("*.py")]:
            tree = ast.parse(path.read_text())
            _Reworded().visit(tree)
            path.write_text(ast.unparse(tree))

    root = copied(tmp_path, reworded)
    assert (root / "unet" / "training" / "trainer.py").read_text().count("reworded") > 5
    assert changed(root) == set()


class _Reworded(ast.NodeTransformer):
    """Other words in each description, log call, docstring and error."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        texts = [keyword for keyword in node.keywords if keyword.arg == "description"]
        for keyword in texts:
            keyword.value = ast.Constant("reworded")
        if ast.unparse(node.func).startswith("log."):
            node.args = [ast.Constant("reworded")]
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        args = node.exc.args if isinstance(node.exc, ast.Call) else []
        if args and isinstance(args[0], ast.Constant | ast.JoinedStr):
            args[0] = ast.Constant("reworded")
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value = ast.Constant("reworded")
        self.generic_visit(node)
        return node


def moved(root: Path) -> None:
    """Modules in sub-packages, under other names, with the imports rewritten."""
    places = {
        "network.model": "architecture.unet",
        "config.label_kinds": "labels.kinds",
        "jobs.journal": "running.journal",
    }
    for old, new in places.items():
        path = root / "unet" / f"{new.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        (root / "unet" / f"{old.replace('.', '/')}.py").rename(path)
    for path in root.rglob("*.py"):
        text = path.read_text()
        for old, new in places.items():
            text = re.sub(rf"\bunet\.{re.escape(old)}\b", f"unet.{new}", text)
        path.write_text(text)


def test_a_module_that_moves_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOES_NOT_COMPUTE, "unet.running.journal", "as unet.jobs.journal")
    assert changed(copied(tmp_path / "a", moved)) == set()

    def moved_and_edited(root: Path) -> None:
        moved(root)
        edited("unet.architecture.unet", "build_model")(root)

    assert changed(copied(tmp_path / "b", moved_and_edited)) == {"export", "predict", "train"}


@pytest.mark.parametrize("name", DOES_NOT_COMPUTE)
def test_what_does_not_compute_is_there(name: str) -> None:
    path = PACKAGE.parent / f"{name.replace('.', '/')}.py"
    module = path.parent.with_suffix(".py") if path.parent != PACKAGE else PACKAGE / "__init__.py"
    defines = re.compile(rf"^((class|def) )?{path.stem}\b", re.MULTILINE)
    assert path.is_file() or defines.search(module.read_text())


def test_no_script_is_left_with_its_own_code_alone() -> None:
    for script in SCRIPTS:
        assert {one.module.full_name for one in definitions_of(script)} - {""}, script
