"""Write the list of settings in docs/training.md from the settings themselves: ``python docs/make_training.py``."""

from pathlib import Path

from spikeport.training.config import reference

PAGE = Path(__file__).with_name("training.md")
MARK = "<!-- Written by docs/make_training.py from here on; a test compares the two. -->\n"


def text() -> str:
    """The page: what stands above the mark, and the settings."""
    return PAGE.read_text(encoding="utf-8").split(MARK)[0] + MARK + "\n" + reference()


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
