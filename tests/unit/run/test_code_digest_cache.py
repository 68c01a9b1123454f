"""Kept digests are those of the code as it is, and a cache that cannot be used costs nothing but time."""

from pathlib import Path

import pytest

from unet.run import code_digest_cache
from unet.run.code_digest import code_digest
from unet.run.code_digest_cache import cache_file, cached_code_digest

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()


def forget() -> None:
    """Forget what this process knows, as at another start."""
    code_digest_cache._key.cache_clear()
    code_digest_cache._kept.cache_clear()


def test_a_kept_digest_is_the_computed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    script = SCRIPTS / "survey.py"
    assert cached_code_digest(script) == code_digest(script)
    forget()
    monkeypatch.setattr(code_digest_cache, "code_digest", lambda script: pytest.fail("computed again"))
    assert cached_code_digest(script) == code_digest(script)


def test_an_edit_of_any_file_computes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "one.py").write_text("a = 1\n")
    before = cached_code_digest(scripts / "one.py")
    (scripts / "one.py").write_text("a = 2\n")
    forget()
    code_digest.__globals__["_module"].cache_clear()
    assert cached_code_digest(scripts / "one.py") != before


def test_the_file_is_read_once_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read_bytes(path))
    for name in ("survey", "ingest", "survey"):
        cached_code_digest(SCRIPTS / f"{name}.py")
    assert reads.count(cache_file()) <= 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": 1}'])
def test_a_damaged_cache_is_replaced(content: str) -> None:
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(content)
    script = SCRIPTS / "survey.py"
    assert cached_code_digest(script) == code_digest(script)
    assert script.name in cache_file().read_text()


def test_a_cache_that_cannot_be_written_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    script = SCRIPTS / "survey.py"
    assert cached_code_digest(script) == code_digest(script)
