"""The pages hold what the scripts write from the results that are kept, and are written whole or not at all."""

import importlib
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from types import ModuleType

import pytest

WRITERS = {
    "conversion_table": "write_tables",
    "few_steps_table": "main",
    "integer_accuracy": "write_table",
    "lava_faults": "write_table",
    "speed_table": "main",
    "summary_table": "main",
    "training_table": "write_readme",
}


@pytest.fixture
def pages(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    found = [Path(copy(page, tmp_path)) for page in (root / "README.md", root / "docs" / "results.md")]
    monkeypatch.setattr(importlib.import_module("tables"), "PAGES", found)
    return found


@pytest.fixture
def load(pages: list[Path]) -> Callable[[str], ModuleType]:
    return importlib.import_module


@pytest.mark.parametrize("script", WRITERS)
def test_the_pages_are_what_their_scripts_write(load, root: Path, pages: list[Path], script: str) -> None:
    getattr(load(script), WRITERS[script])()
    for page, kept in zip(pages, (root / "README.md", root / "docs" / "results.md"), strict=True):
        assert page.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), f"python benchmarks/{script}.py"


def test_only_what_lies_between_the_marks_changes(load, pages: list[Path]) -> None:
    tables = load("tables")
    first, last = tables.marks("speed")
    before = pages[1].read_text(encoding="utf-8")
    tables.put_table("speed", "| one |")
    after = pages[1].read_text(encoding="utf-8")
    assert f"{first}\n| one |\n{last}" in after
    assert after.split(first)[0] == before.split(first)[0]
    assert after.split(last)[1] == before.split(last)[1]
    assert list(pages[1].parent.glob("*.partial")) == []


def test_a_table_that_no_page_has_ends_the_script(load, pages: list[Path]) -> None:
    before = [page.read_text(encoding="utf-8") for page in pages]
    with pytest.raises(SystemExit, match="no page has the marks <!-- nonsuch -->"):
        load("tables").put_table("nonsuch", "")
    assert [page.read_text(encoding="utf-8") for page in pages] == before
