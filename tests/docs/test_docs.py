"""What the documents show works: code runs, links lead somewhere, and the page of commands is that of the command."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from spikeport.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def blocks(page: str) -> list[tuple[str, str]]:
    """Kind and text of what runs: Python, and shell that begins with the command."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [(kind, text) for kind, text in found if kind == "python" or text.startswith("spikeport ")]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_code_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page, "exec"), namespace)
            continue
        for line in text.splitlines():
            assert run(shlex.split(line, comments=True)[1:]) == 0, line


def test_the_page_of_commands_is_that_of_the_command() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"), run_name="docs")
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made["text"](), "python docs/make_commands.py"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    links = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_list_of_settings_is_that_of_the_settings() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_training.py"), run_name="docs")
    assert (ROOT / "docs" / "training.md").read_text(encoding="utf-8") == made["text"](), "python docs/make_training.py"
