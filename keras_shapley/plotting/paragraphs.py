"""Coloured texts as a figure: where each word stands, and how it is drawn."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_shapley.plotting.canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# inches
_MARGIN = 0.15
_SPACE = 0.05
_PADDING = 0.04
_LINE = 0.27
_BOX = 0.22
# from the bottom of a word's box to its baseline
_BASELINE = 0.065
_TITLE_LINE = 0.2
_BAR_LENGTH = 1.2
_BAR_HEIGHT = 0.07
_BAR_SPACE = 0.34
_HEADLINE = 0.36
# the luminance of a colour, and the one that has the same contrast with black as with white
_LUMINANCE, _GAMMA = np.array([0.2126, 0.7152, 0.0722]), 2.2
_MIDDLE = 0.179
# points
_FONT_SIZE = 10


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A text and the colours of its words.

    Attributes:
        title: of the text, one or more lines; empty for none.
        label: of the attribution; empty for none.
        words: strings and their relevance.
        colours: red, green and blue of each word, shape `(words, 3)`.
        limit: relevance at the ends of the colour scale.
    """

    title: str
    label: str
    words: list[tuple[str, float]]
    colours: np.ndarray
    limit: float

    def ink(self, k: int) -> str:
        """Black or white, whichever has the higher contrast with the colour of word `k` (WCAG 2)."""
        luminance = self.colours[k] ** _GAMMA @ _LUMINANCE
        return "#000" if luminance > _MIDDLE else "#fff"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a word, or a piece of a long one, stands: `line` from the top, `left` and `width` in inches."""

    word: int
    text: str
    line: int
    left: float
    width: float


def places(words: Sequence[str], measured: Callable[[str], float], width: float) -> list[Place]:
    """Words in lines of a width; a word longer than a line is broken into pieces.

    Args:
        words: the strings.
        measured: the width of a string in inches.
        width: of the lines in inches.
    """
    result, line, left = [], 0, 0.0
    for k, word in enumerate(words):
        for piece in _pieces(word, measured, width - 2 * _PADDING):
            length = measured(piece) + 2 * _PADDING
            if left and left + length > width:
                line, left = line + 1, 0.0
            result.append(Place(k, piece, line, left, length))
            left += length + _SPACE
    return result


def draw_paragraphs(paragraphs: Sequence[Paragraph], title: str, width: float) -> "Figure":
    """The figure of texts one below the other, each under its title, its label and its colour bar."""
    ruler = Canvas(width, 1)
    text_width = width - 2 * _MARGIN
    widths: dict[str, float] = {}

    def measured(text: str) -> float:
        from matplotlib.font_manager import FontProperties

        if text not in widths:
            font = FontProperties(size=_FONT_SIZE)
            pixels, _, _ = ruler.renderer.get_text_width_height_descent(text, font, ismath=False)
            widths[text] = pixels / ruler.figure.dpi
        return widths[text]

    label_width = text_width - _BAR_LENGTH - 2 * _MARGIN
    heads = [_heading(part, lambda line: measured(line) <= label_width) for part in paragraphs]
    layouts = [places([word for word, _ in part.words], measured, text_width) for part in paragraphs]
    heights = [
        _TITLE_LINE * len(lines) + _BAR_SPACE + (layout[-1].line + 1) * _LINE + _MARGIN
        for (lines, _), layout in zip(heads, layouts)
    ]
    y = sum(heights)
    canvas = Canvas(width, y + (_HEADLINE if title else _MARGIN / 2))
    canvas.write(title, width / 2, y + _HEADLINE / 2, text_width, _FONT_SIZE + 2, va="center")
    for part, layout, (lines, label), height in zip(paragraphs, layouts, heads, heights):
        top = y - _TITLE_LINE * len(lines)
        canvas.write("\n".join(lines), _MARGIN, top, text_width, _FONT_SIZE, ha="left")
        middle = top - 0.5 * _BAR_SPACE
        canvas.write(label, _MARGIN, middle, label_width, _FONT_SIZE, ha="left", va="center")
        box = width - 1.5 * _MARGIN - _BAR_LENGTH, middle, _BAR_LENGTH, _BAR_HEIGHT
        canvas.add_bar(box, part.limit, exceeded=False, orientation="horizontal", font_size=_FONT_SIZE - 3)
        _write_words(canvas, part, layout, top - _BAR_SPACE)
        y -= height
    return canvas.figure


def _heading(part: Paragraph, fits: Callable[[str], bool]) -> tuple[list[str], str]:
    """Lines above the colour bar, and the line beside it: the label, or the end of the title if it fits there."""
    lines = part.title.split("\n") if part.title else []
    if part.label:
        return lines, part.label
    return (lines[:-1], lines[-1]) if lines and fits(lines[-1]) else (lines, "")


def _write_words(canvas: Canvas, part: Paragraph, layout: Sequence[Place], top: float) -> None:
    """Draws each word in a box of its colour."""
    from matplotlib.patches import Rectangle

    inches = canvas.figure.dpi_scale_trans
    for place in layout:
        left, bottom = _MARGIN + place.left, top - (place.line + 1) * _LINE
        box = Rectangle(
            (left, bottom), place.width, _BOX, facecolor=part.colours[place.word], edgecolor="none", transform=inches
        )
        canvas.figure.add_artist(box)
        canvas.figure.text(
            left + _PADDING,
            bottom + _BASELINE,
            place.text,
            size=_FONT_SIZE,
            color=part.ink(place.word),
            va="baseline",
            transform=inches,
            parse_math=False,
        )


def _pieces(word: str, measured: Callable[[str], float], width: float) -> list[str]:
    """The word, cut into the longest pieces that are no wider than `width`, of a character at least."""
    pieces = []
    while measured(word) > width and len(word) > 1:
        # the largest length that fits, by bisection
        low, high = 1, len(word)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if measured(word[:middle]) <= width else (low, middle)
        pieces.append(word[:low])
        word = word[low:]
    return [*pieces, word]
