"""`plot_tokens` and `tokens_html`: texts whose tokens have the colours of their relevance."""

import dataclasses
import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_shapley.plotting.attributions import Attributions, attributions_of, titles_of
from keras_shapley.plotting.colours import limits, relevance_colours
from keras_shapley.plotting.paragraphs import Paragraph, draw_paragraphs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# what would break a line or be invisible
_VISIBLE = {"\n": "↵", "\r": "↵", "\t": "⇥"}
# number of colours in the bar of a web page, which interpolates between them
_N_STOPS = 11


def plot_tokens(
    relevance: Any,
    tokens: Sequence[Sequence[str]],
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    shared_scale: bool = False,
    width: float = 8.0,
) -> "Figure":
    """Draws texts whose tokens have the colours of their relevance: red is positive, blue is negative, white is zero.

    The colour scale of a text is symmetric about zero and ends at its largest `|relevance|`. Matplotlib's font has no
    Chinese characters and no emoji; `tokens_html` shows all that the browser can.

    Args:
        relevance: array of shape `(n, steps)`, or `(n, steps, features)`, which is summed over the features; or an
            explanation object, such as `Explanation` and `ShapleyValues`. An explanation of several targets is drawn
            as a paragraph for each of them. Where players are groups of tokens, a token has the value of its group.
            A dict puts several of all these one below the other, with its keys as labels.
        tokens: `n` lists of `steps` strings. Padding is the empty string: it is left out, and the sum of its relevance
            stands behind the text if it is not zero.
        titles: `n` strings of one or more lines, one above each text. By default `explanation.titles()`, if an
            `Explanation` of one target is given.
        title: headline of the figure.
        shared_scale: whether all texts share one colour scale, so that they can be compared. The arrays of a dict and
            the targets of an explanation never share a scale.
        width: width of the figure in inches.

    Returns:
        `matplotlib.figure.Figure`, which is saved by `figure.savefig(path)`. It has an Agg canvas and opens no window.

    Raises:
        ValueError: if the numbers of tokens and of steps differ, a token is no string, an array has another shape or
            holds NaN or infinity, an explanation has several inputs, or `width` is less than 2.

    Examples:
        >>> words = ["not", "a", "bad", "film"]
        >>> figure = ks.plot_tokens(np.array([[0.4, 0.0, -0.3, 0.1]]), [words], titles=["positive (61 %)"])
        >>> figure.savefig("tokens.png")
    """
    parts = _relevance(relevance, tokens)
    titles = titles_of(relevance, titles, len(parts[0].values), "text")
    if not 2 <= width < np.inf:
        raise ValueError(f"`width` must be 2 inches or more. Received: width={width!r}")
    return draw_paragraphs(_paragraphs(parts, tokens, titles, shared_scale), title or "", width)


def tokens_html(
    relevance: Any,
    tokens: Sequence[Sequence[str]],
    *,
    titles: Sequence[str] | None = None,
    shared_scale: bool = False,
) -> "TokensHTML":
    """Texts as HTML, whose tokens have the colours of their relevance: red is positive, blue is negative.

    A notebook displays the result. Whatever stands in tokens and titles is shown as text, never read as HTML. The
    number of a token appears when the pointer rests on it.

    Args:
        relevance: as in `plot_tokens`.
        tokens: as in `plot_tokens`.
        titles: as in `plot_tokens`.
        shared_scale: as in `plot_tokens`.

    Returns:
        A string, a `<div>` without scripts or style sheets.

    Raises:
        ValueError: as `plot_tokens`.

    Examples:
        >>> page = ks.tokens_html(np.array([[0.4, -0.2]]), [["good", "<b>"]])
        >>> "&lt;b&gt;" in page, "<b>" in page
        (True, False)
    """
    parts = _relevance(relevance, tokens)
    titles = titles_of(relevance, titles, len(parts[0].values), "text")
    blocks = [_block(paragraph) for paragraph in _paragraphs(parts, tokens, titles, shared_scale)]
    # colours of its own, for notebooks on dark ground
    style = "background:#fff;color:#000;padding:0.5em;line-height:1.9;overflow-wrap:anywhere"
    return TokensHTML(f'<div style="{style}">{"".join(blocks)}</div>')


class TokensHTML(str):
    """HTML that a notebook displays."""

    def _repr_html_(self) -> str:
        return str(self)


def _paragraphs(
    parts: Sequence[Attributions], tokens: Sequence[Sequence[str]], titles: Sequence[str], shared_scale: bool
) -> list[Paragraph]:
    """What is drawn one below the other: for each text its attributions."""
    scale = relevance_colours()
    words = [[_words(row, values) for row, values in zip(tokens, part.values)] for part in parts]
    ends = [limits([np.array([v for _, v in text]) for text in texts], 100, shared_scale) for texts in words]
    result = []
    for i, title in enumerate(titles):
        for k, part in enumerate(parts):
            limit = ends[k][i]
            colours = scale.to_rgba(np.array([value / (limit or 1) for _, value in words[k][i]]))
            heading = title if k == 0 else ""
            result.append(Paragraph(heading, part.labels[i], words[k][i], colours[:, :3], limit))
    return result


def _words(tokens: Sequence[str], values: np.ndarray) -> list[tuple[str, float]]:
    """Strings and their relevance, those of padding in one."""
    words = [(token, float(value)) for token, value in zip(tokens, values) if token]
    padding = [float(value) for token, value in zip(tokens, values) if not token]
    if any(padding) or not words:
        words.append((f"[padding × {len(padding)}]", sum(padding)))
    return [(_visible(token), value) for token, value in words]


def _visible(token: str) -> str:
    """The token without what would break a line or could not be seen."""
    shown = "".join(_VISIBLE.get(character, character) for character in token)
    return shown if shown.strip() else "␣"


def _block(paragraph: Paragraph) -> str:
    """A paragraph as HTML."""
    lines = [f"<div><b>{_escaped(paragraph.title)}</b></div>"] if paragraph.title else []
    lines.append(f"<div><small>{_escaped(paragraph.label)} {_bar(paragraph.limit)}</small></div>")
    spans = [
        f'<span style="background:{_hex(colour)};color:{paragraph.ink(k)};padding:0.1em 0.2em;border-radius:0.2em" '
        f'title="{value:.3g}">{_escaped(token)}</span>'
        for k, ((token, value), colour) in enumerate(zip(paragraph.words, paragraph.colours))
    ]
    lines.append(f'<div style="margin-bottom:0.8em">{" ".join(spans)}</div>')
    return "".join(lines)


def _bar(limit: float) -> str:
    """The colour bar."""
    stops = ",".join(_hex(colour) for colour in relevance_colours().to_rgba(np.linspace(-1, 1, _N_STOPS)))
    style = f"display:inline-block;width:8em;height:0.7em;background:linear-gradient(to right,{stops})"
    return f'\N{MINUS SIGN}{limit:.2g} <span style="{style}"></span> {limit:.2g}'


def _escaped(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour[:3])


def _relevance(relevance: Any, tokens: Sequence[Sequence[str]]) -> list[Attributions]:
    """The attribution of each token, `values` of shape `(n, steps)`.

    Raises:
        ValueError: if tokens are no strings, or not as many as there are values.
    """
    lengths = _checked_lengths(tokens)
    result = []
    for part in attributions_of(relevance):
        if part.values.ndim not in (2, 3) or 0 in part.values.shape:
            raise ValueError(
                f"`{part.name}` must have shape (n, steps) or (n, steps, features). Received shape: {part.values.shape}"
            )
        values = part.of_positions() if part.values.ndim == 3 else part.of_elements()
        n, steps = values.shape
        if lengths != [steps] * n:
            raise ValueError(
                f"`tokens` must be {n} lists of {steps} strings, as many as `{part.name}` of shape "
                f"{part.values.shape} has values, with '' for padding. Received: lists of {_summary(lengths)}"
            )
        result.append(dataclasses.replace(part, values=values, groups=None))
    return result


def _checked_lengths(tokens: Sequence[Sequence[str]]) -> list[int]:
    """Number of tokens of each text."""
    if not isinstance(tokens, Iterable):
        raise ValueError(f"`tokens` must be a list of strings for each text. Received: {tokens!r}")
    for row in tokens:
        if isinstance(row, (str, bytes)) or not hasattr(row, "__len__"):
            raise ValueError(
                f"`tokens` must be a list of strings for each text, such as [['a', 'text'], ...]. Received: {row!r} in "
                "the place of such a list"
            )
        for token in row:
            if not isinstance(token, str):
                raise ValueError(
                    f"`tokens` must be strings. Received: {token!r}. Words of numbers are those of your tokenizer, as "
                    "in [[vocabulary[i] for i in row] for row in ids] with layer.get_vocabulary()."
                )
    return [len(row) for row in tokens]


def _summary(lengths: Sequence[int]) -> str:
    shown = ", ".join(map(str, lengths[:5]))
    return f"{shown}, ..." if len(lengths) > 5 else shown
