"""Draw with matplotlib into SVG that can stand inside a page: no global state, the same bytes every time.

Figures hold no string from outside (layers are numbered), so no name can reach the SVG.  Colours become CSS
variables, so one picture serves a light and a dark page.
"""

import io
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["ANN", "BAD", "EXIT", "FIXED", "INK", "ORACLE", "axes", "draw"]

# What the colours mean; each hex is unique because draw() replaces it by its variable.
INK, FAINT, GRID = "#1d2433", "#5a6475", "#dde2ea"
FIXED, EXIT, ANN, ORACLE, BAD = "#2a5bd7", "#c8500c", "#5a6476", "#7d45b8", "#b3261e"
_VARIABLE = {
    INK: "--ink",
    FAINT: "--faint",
    GRID: "--grid",
    FIXED: "--fixed",
    EXIT: "--exit",
    ANN: "--ann",
    ORACLE: "--oracle",
    BAD: "--bad",
}

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small files, and the reader's own font
    "text.parse_math": False,
    "font.size": 11.5,
    "axes.labelsize": 11.5,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.2,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}


def draw(
    paint: Callable[[Figure], None], *, name: str, title: str, description: str, size: tuple[int, int] = (400, 290)
) -> str:
    """Return what ``paint`` draws on a fresh figure as an ``<svg>`` element for HTML.

    name: prefix of every id, unique on the page.  title, description: read out by screen readers.
    size: width and height in CSS pixels at which the text has its natural size.
    """
    with matplotlib.style.context(["default", _STYLE | {"svg.hashsalt": name}]):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        # Fixed margins, not a layout engine: it costs as much as the drawing, and axes in a row should line up.
        left, right, top, bottom = 50 / size[0], 1 - 8 / size[0], 1 - 28 / size[1], 39 / size[1]
        figure.subplots_adjust(left, bottom, right, top, hspace=0.5)
        canvas = FigureCanvasSVG(figure)
        paint(figure)
        file = io.StringIO()
        canvas.print_svg(file, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inlined(file.getvalue(), name, title, description)


def axes(figure: Figure, x: str, y: str) -> Axes:
    """Return the one pair of axes of a figure, its labels set."""
    made = figure.add_subplot()
    made.set_xlabel(x)
    made.set_title(y, loc="left", fontsize=11, color=FAINT, pad=9)  # above the axis: a rotated label costs width
    return made


def _inlined(svg: str, name: str, title: str, description: str) -> str:
    root = ElementTree.fromstring(svg)  # noqa: S314 - written by matplotlib a moment ago
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):  # a style element would reach the whole page
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _renamed(value, name)
            for key, value in element.attrib.items()
            if not (key == "id" and value not in used)
        }
        if "id" in element.attrib:
            element.attrib["id"] = f"{name}-{element.attrib['id']}"
        element.tail = None
        element.text = (element.text or "").strip() or None
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
        "class": "plot",
    }
    for tag, text in (("desc", description), ("title", title)):
        label = ElementTree.Element(tag, {"id": f"{name}-{'title' if tag == 'title' else 'description'}"})
        label.text = text
        root.insert(0, label)
    return ElementTree.tostring(root, encoding="unicode")


def _local(qualified: str) -> str:
    return qualified.rsplit("}", 1)[-1]


def _renamed(value: str, name: str) -> str:
    """Prefix references, turn colours into variables, and drop the fonts: the page has its own."""
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    value = re.sub(r"^#(?![0-9a-f]{6}$)", f"#{name}-", value)
    value = re.sub(r"font-family: [^;]+;? ?", "", value)
    value = re.sub(r"(font: [\d.]+px) [^;]+", r"\1 sans-serif", value)
    return re.sub(r"#[0-9a-f]{6}\b", lambda hit: f"var({_VARIABLE[hit[0]]})" if hit[0] in _VARIABLE else hit[0], value)
