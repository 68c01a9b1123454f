"""Hooks of MkDocs: pages that follow from the code, and links from pages into the repository.

1. `on_config` adds the decisions and the pages of the Python API to the navigation.
2. `on_files` generates one page of the Python API per package of `unet`; mkdocstrings fills it from the docstrings.
3. `on_page_markdown` turns links to files of the repository, which GitHub follows, into links within the site.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PYTHON = "reference/python"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CONFIGURATION = "reference/configuration.md"
log = get_plugin_logger("hooks")


def packages() -> dict[str, list[str]]:
    """Return the full names of the modules of each package of `unet`, packages in the order of `unet.__doc__`."""
    order = re.findall(
        r"^(\w+)  +\S", ast.get_docstring(ast.parse((ROOT / "unet/__init__.py").read_text())) or "", re.M
    )
    found = {}
    for name in order:
        files = sorted((ROOT / "unet" / name).rglob("*.py"))
        modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
        found[name] = [module for module in modules if not module.endswith(".__init__")]
    return found


def package_page(name: str, modules: list[str]) -> str:
    """Return the page of a package: its question, and every module for mkdocstrings to fill."""
    question = ast.get_docstring(ast.parse((ROOT / "unet" / name / "__init__.py").read_text()))
    parts = [f"# unet.{name}", "", f"{question}", ""]
    for module in modules:
        parts += [f"::: {module}", ""]
    return "\n".join(parts)


def decisions() -> list[Path]:
    """Return the pages of decisions in the order of their names."""
    return sorted((DOCS / "decisions").glob("*.md"))


def on_config(config: Any) -> Any:
    """Complete the navigation."""
    python = {"Python API": [{f"unet.{name}": f"{PYTHON}/{name}.md"} for name in packages()]}
    for entry in config.nav:
        if "Reference" in entry:
            entry["Reference"].append(python)
    config.nav.append({"Decisions": [str(path.relative_to(DOCS)) for path in decisions()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Generate the pages of the Python API, and the configuration from `config/README.md`."""
    for name, modules in packages().items():
        files.append(File.generated(config, f"{PYTHON}/{name}.md", content=package_page(name, modules)))
    text = (ROOT / "config" / "README.md").read_text()
    files.append(File.generated(config, CONFIGURATION, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave `docs/` into links within the site, or into plain text where the site has no such page."""
    here = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if ":" in target or page.file.src_uri.startswith(PYTHON):
            return match[0]
        path = posixpath.normpath(posixpath.join("docs", here, target))
        if path.startswith("docs/"):
            return match[0]
        if not (ROOT / path).exists():
            log.warning(f"{page.file.src_uri} links to {path}, which is not in the repository")
        inside = in_site(path)
        if inside is None:
            return text
        name = re.match(r"`(\w+)`(?: in |$)", text)
        if "#" not in inside:
            inside += anchor
        elif name and re.search(rf"^(?:def|class) {name[1]}\b", (ROOT / path).read_text(), re.MULTILINE):
            inside += f".{name[1]}"
        return f"[{text}]({posixpath.relpath(inside, here or '.')})"

    return LINK.sub(replaced, markdown)


def in_site(path: str) -> str | None:
    """Return the page, and its anchor, that stands for a file of the repository; None where there is none."""
    if path == "config/README.md":
        return CONFIGURATION
    if match := re.fullmatch(r"unet/(\w+)/(.+)\.py", path):
        return f"{PYTHON}/{match[1]}.md#{path.removesuffix('.py').replace('/', '.')}"
    if match := re.fullmatch(r"scripts/(\w+)\.py", path):
        return f"reference/rules.md#{match[1]}"
    return None
