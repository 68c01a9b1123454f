"""The pages: they build strictly and ask the network for nothing, and what they name is in the code."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.sentences import MAX_WORDS, docstrings, messages, sentences, words

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MARKDOWN = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TUTORIAL = DOCS / "tutorial" / "first-segmentation.md"
BY_OTHERS = "(Snakemake)"
"""In the table of errors, behind a message that is not this project's."""


def loaded(name: str) -> ModuleType:
    """A script of `docs/` as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(path: Path) -> str:
    """A path for a test's name."""
    return str(path.relative_to(ROOT))


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly; every server is out of reach."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


class Fetched(HTMLParser):
    """Addresses that a browser asks for by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "embed"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.found.append(given.get("href") or "")


def test_no_page_asks_the_network_for_anything(site: Path) -> None:
    pages, styles = sorted(site.rglob("*.html")), sorted(site.rglob("*.css"))
    assert len(pages) > 50
    assert len(styles) >= 2
    remote = re.compile(r"(?:https?:)?//")
    found = []
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text())
        found += [f"{page.name}: {address}" for address in parser.found if remote.match(address)]
        found += [page.name for style in re.findall(r"<style.*?</style>", page.read_text(), re.DOTALL) if "//" in style]
    found += [
        f"{style.name}: {one}"
        for style in styles
        for one in re.findall(r"url\(['\"]?(https?:[^)]*)", style.read_text())
    ]
    assert found == []


def test_pages_can_be_searched_in_light_and_dark(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text()
    assert "tile-invariance" in index
    assert "unet.geometry.box.Box" in index
    home = (site / "index.html").read_text()
    assert 'data-md-color-scheme="default"' in home
    assert 'data-md-color-scheme="slate"' in home


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def entries(nav: Any) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        return [one for item in (nav.values() if isinstance(nav, dict) else nav) for one in entries(item)]

    named = {*entries(settings["nav"]), *(f"decisions/{path.name}" for path in loaded("hooks").decisions())}
    assert {str(path.relative_to(DOCS)) for path in PAGES} - named == set()


def test_every_package_has_a_page_of_the_python_api(site: Path) -> None:
    packages = loaded("hooks").packages()
    assert set(packages) == {path.parent.name for path in (ROOT / "unet").glob("*/__init__.py")}
    for name, modules in packages.items():
        page = (site / "reference" / "python" / name / "index.html").read_text()
        assert [module for module in modules if f'id="{module}"' not in page] == []


# Links, as they work on GitHub


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_messages_and_comments_name_pages_that_are_there() -> None:
    files = [
        path
        for folder in ("unet", "scripts", "workflow", "benchmarks", "tests", "config")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".smk", ".yaml", ".md", ".json", ".rst") or path.name == "Snakefile"
    ]
    assert len(files) > 200
    named = {(path, page) for path in files for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())}
    assert len(named) > 10
    assert [f"{path}: {page}" for path, page in sorted(named) if not (ROOT / page).exists()] == []


# Words


def test_sentences_are_short() -> None:
    """Look at the pages and at all docstrings; the keys of the configuration are on a page."""
    folders = ("unet", "scripts", "benchmarks", "docs", "snakemake_logger_plugin_unet_em", "tests")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    pages = [*MARKDOWN, ROOT / "config" / "README.md", ROOT / "benchmarks" / "README.md"]
    texts = [(name_of(page), page.read_text()) for page in pages]
    texts += [(f"{name_of(path)}:{line}", text) for path in files for line, text in docstrings(path)]
    found = [(place, sentence) for place, text in texts for sentence in sentences(text)]
    assert len(texts) > 5000
    assert len(found) > 15_000
    assert [f"{place}: {sentence}" for place, sentence in found if words(sentence) > MAX_WORDS] == []


def test_messages_have_short_sentences(tmp_path: Path) -> None:
    folders = ("unet", "scripts", "snakemake_logger_plugin_unet_em")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        (f"{name_of(path)}:{line}", one) for path in files for line, text in messages(path) for one in sentences(text)
    ]
    assert len(found) > 1500
    assert [f"{place}: {sentence}" for place, sentence in found if words(sentence) > MAX_WORDS] == []
    sample = tmp_path / "sample.py"
    sample.write_text("raise ValueError(f'{a} is ' + f'not {b}')\nlog.warning('slow: %s', why)\nopen('x')")
    assert list(messages(sample)) == [(1, "X is not X"), (2, "slow: %s")]


def test_a_long_sentence_is_seen() -> None:
    long = "word " * (MAX_WORDS + 1)
    for text in (f"{long}.", f"Short.\n\n- **Bold.** {long}\n", f"| a | {long} |", f"Raises\n------\nE\n    {long}"):
        assert max(map(words, sentences(text))) == MAX_WORDS + 1
    for text in (f"```\n{long}\n```", f"a\n\n    {long}", f">>> f()\n{long}", f"a `{long}` b", f"[a](b {long})"):
        assert max(map(words, sentences(text)), default=0) < 5


# In step with the code


def test_page_of_rules_is_in_step() -> None:
    rules_page = loaded("rules_page")
    assert rules_page.page() == (DOCS / "reference" / "rules.md").read_text(), "run `make config`"
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == {
        name for file in rules_page.FILES for name in rules_page.rules(ROOT / "workflow" / "rules" / f"{file}.smk")
    }


def test_table_of_formats_is_in_step() -> None:
    formats_table = loaded("formats_table")
    text = formats_table.PAGE.read_text()
    assert formats_table.page(text) == text, "run `make config`"


def defined_in(module: Path) -> set[str]:
    """Names that a module defines, with those of its classes behind a dot."""
    found = set()
    for node in ast.parse(module.read_text()).body:
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        names += [one.id for one in getattr(node, "targets", []) if isinstance(one, ast.Name)]
        found |= set(names)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def is_in_code(name: str) -> bool:
    """Return whether a full name such as `unet.geometry.box.Box.shape` is a module or defined in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        if path.is_dir() and count == len(parts):
            return True
        if path.with_suffix(".py").exists():
            return count == len(parts) or ".".join(parts[count:]) in defined_in(path.with_suffix(".py"))
    return False


def keys() -> set[str]:
    """All keys of the configuration as its reference names them."""
    section, found = "", set()
    for line in (ROOT / "config" / "README.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:].strip("` ")
        elif match := re.match(r"\| `([\w.]+)` \|", line):
            found.add(f"{section}.{match[1]}")
    return found


def test_terms_of_the_glossary_are_in_the_code() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \|.*\| `([^`|]+)` \|$", (DOCS / "reference" / "glossary.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 50
    terms = [one.strip() for term, _ in rows for one in term.split(",")]
    assert len(terms) == len(set(terms)), "each term once"
    known = keys()
    missing = [
        (term, code)
        for term, code in rows
        if not (is_in_code(code) if code.startswith("unet.") else code in known or (ROOT / code).is_dir())
    ]
    assert missing == []


def test_metrics_on_the_page_are_those_of_the_report() -> None:
    from unet.run.report.scores_section import SCORES

    page = (DOCS / "reference" / "metrics.md").read_text()
    counts = {"objects", "true_objects", "skeletons", "skeleton_nm", "cremi_voi_split", "cremi_voi_merge"}
    counts |= {"cremi_adapted_rand_error"}
    assert [score.key for score in SCORES if f"`{score.key}`" not in page and score.key not in counts] == []


def test_messages_on_the_page_of_errors_are_in_the_code() -> None:
    files = [
        path
        for folder in ("unet", "scripts", "snakemake_logger_plugin_unet_em")
        for path in (ROOT / folder).rglob("*.py")
    ]
    texts = [
        str(node.value)
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts += [
        path.read_text() for path in (ROOT / "workflow").rglob("*") if path.suffix == ".smk" or path.stem == "Snakefile"
    ]
    everything = "\n".join(texts)
    cells = re.findall(r"^\| (`.*?) \|", (DOCS / "reference" / "errors.md").read_text(), re.MULTILINE)
    quoted = [message for cell in cells if BY_OTHERS not in cell for message in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 15
    parts = [(message, part.strip()) for message in quoted for part in message.split("...") if part.strip()]
    assert [message for message, part in parts if part not in everything] == []


# The tutorial


def test_commands_of_the_tutorial_are_those_that_ran() -> None:
    script = loaded("make_tutorial")
    page = TUTORIAL.read_text()
    ran = script.RAN.read_text().splitlines()
    assert len(ran) > 4
    assert script.commands(page) == ran, "run `python docs/make_tutorial.py`"
    assert [command for _, _, command, output, _ in script.OUTPUT.findall(page) if not output.strip()] == []


def test_configuration_of_the_tutorial_is_valid() -> None:
    from unet.config.root import load_config

    load_config(yaml.safe_load(loaded("make_tutorial").configuration(TUTORIAL.read_text())))


def test_pictures_of_the_pages_are_made_by_scripts() -> None:
    made = "".join(path.read_text() for path in DOCS.glob("make_*.py"))
    pictures = {Path(name).name for page in PAGES for name in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text())}
    assert len(pictures) >= 4
    assert [name for name in pictures if f'"{name}"' not in made] == []
    kept = {path.name for path in DOCS.rglob("*") if path.suffix in (".png", ".webp", ".svg", ".jpg")}
    assert kept == pictures, "each picture is shown"


def test_a_stride_of_whole_pooling_windows_equals_the_section_at_once() -> None:
    _, differences = loaded("make_tile_invariance").compared(size=2 * 388)
    assert differences[384].max() < 1e-5
    assert differences[388].max() > 0.1
