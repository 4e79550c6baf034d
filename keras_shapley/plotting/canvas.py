"""A figure on which plots place what they draw, in inches from the lower left corner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from keras_shapley.plotting.colours import relevance_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
# points
_SMALLEST_FONT = 5
# times that a text is too wide before half of it is cut at once
_MUCH = 4
# of frames
LINE_WIDTH = 0.5
FRAME_COLOUR = "0.6"


class Canvas:
    """A figure with an Agg canvas, which opens no window, and the colours of relevance.

    Attributes:
        figure: `matplotlib.figure.Figure`.
        colours: see `relevance_colours`.
    """

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height), dpi=_DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.colours = relevance_colours()

    def add_axes(self, left: float, bottom: float, width: float, height: float) -> "Axes":
        """Axes with a thin frame and without ticks."""
        across, up = self.figure.get_size_inches()
        axes = self.figure.add_axes((left / across, bottom / up, width / across, height / up))
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(linewidth=LINE_WIDTH, color=FRAME_COLOUR)
        return axes

    def add_bar(
        self,
        box: tuple[float, float, float, float],
        limit: float,
        *,
        exceeded: bool,
        orientation: Literal["vertical", "horizontal"],
        font_size: float,
    ) -> None:
        """Draws a colour bar.

        Args:
            box: left, bottom, width and height of the bar.
            limit: relevance at its ends.
            exceeded: whether some relevance lies beyond, which pointed ends show.
            orientation: of the bar.
            font_size: of its labels, in points.
        """
        axes, extend = self.add_axes(*box), "both" if exceeded else "neither"
        bar = self.figure.colorbar(self.colours, cax=axes, orientation=orientation, extend=extend)
        labels = [f"\N{MINUS SIGN}{limit:.2g}", "0", f"{limit:.2g}"] if limit else ["", "0", ""]
        bar.set_ticks([-1, 0, 1], labels=labels)
        bar.ax.tick_params(labelsize=font_size, length=2, width=LINE_WIDTH, pad=2)
        bar.outline.set(linewidth=LINE_WIDTH, edgecolor=FRAME_COLOUR)

    def write(
        self,
        text: str,
        x: float,
        y: float,
        width: float,
        size: float,
        *,
        ha: Literal["left", "center", "right"] = "center",
        va: Literal["bottom", "center", "baseline"] = "bottom",
    ) -> None:
        """Writes text, which is made smaller and then cut where it is wider than `width`."""
        if not text:
            return
        across, up = self.figure.get_size_inches()
        # a dollar sign in the name of a class starts no formula
        artist = self.figure.text(x / across, y / up, text, size=size, ha=ha, va=va, parse_math=False)

        def excess() -> float:
            return artist.get_window_extent(self.renderer).width / (width * self.figure.dpi)

        if excess() > 1:
            artist.set_fontsize(max(_SMALLEST_FONT, size / excess()))
        while (times := excess()) > 1:
            lines = artist.get_text().split("\n")
            longest = max(range(len(lines)), key=lambda line: len(lines[line]))
            kept = lines[longest].rstrip("…")
            # letter by letter, a text of thousands would take minutes
            kept = kept[: len(kept) // 2] if times > _MUCH else kept[:-1]
            lines[longest] = kept + "…"
            artist.set_text("\n".join(lines))


def checked_titles(titles: Sequence[str] | None, n: int, name: str = "titles", each: str = "image") -> list[str]:
    """`n` strings; empty ones by default.

    Raises:
        ValueError: if there are fewer or more.
    """
    if titles is None:
        return [""] * n
    if isinstance(titles, str) or len(titles) != n:
        raise ValueError(f"`{name}` must be a list of {n} strings, one for each {each}. Received: {name}={titles!r}")
    return list(titles)
