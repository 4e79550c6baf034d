"""Coloured tokens, as a figure and as HTML: colours, line breaks, escaping, and what is refused."""

import html.parser
import re

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import keras_shapley as ks
from keras_shapley.plotting.paragraphs import places

WORDS = ["not", "a", "bad", "film"]
VALUES = np.array([[0.4, 0.0, -0.8, 0.1]])


def boxes_of(figure):
    """Colours of the boxes of words, and the words in them, in their order."""
    boxes = [artist for artist in figure.get_children() if isinstance(artist, Rectangle) and artist is not figure.patch]
    texts = [text for text in figure.texts if text.get_transform() == figure.dpi_scale_trans]
    assert len(boxes) == len(texts)
    return [to_hex(box.get_facecolor()) for box in boxes], [text.get_text() for text in texts]


class Spans(html.parser.HTMLParser):
    """Text, style and title of each span that holds a token; names of all tags."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.spans, self._style = [], [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._attributes = dict(attrs) if tag == "span" else None

    def handle_data(self, data):
        if self._attributes and "title" in self._attributes:
            self.spans.append((data, *self._attributes.values()))

    def handle_endtag(self, tag):
        self._attributes = None


def colours_in(page):
    return [re.search("background:(#[0-9a-f]{6})", style).group(1) for _, style, _ in Spans(page).spans]


def test_words_have_the_colours_of_heatmaps():
    figure = ks.plot_tokens(VALUES, [WORDS], titles=["positive"], title="headline")
    colours, words = boxes_of(figure)
    (image,) = (axes.images[0] for axes in ks.plot_heatmaps(VALUES[None], percentile=100).axes if axes.images)
    expected = [to_hex(colour) for colour in image.to_rgba(image.get_array())[0]]
    assert words == WORDS
    assert colours == expected == colours_in(ks.tokens_html(VALUES, [WORDS]))
    assert colours[1] == "#ffffff"
    assert {"positive", "headline"} <= {text.get_text() for text in figure.texts}


def test_every_word_is_legible():
    """WCAG's contrast of text and ground."""

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    values = np.linspace(-1, 1, 101)[None]
    words = [str(k) for k in range(101)]
    for _, style, _ in Spans(ks.tokens_html(values, [words])).spans:
        ground, ink = (
            [int(code[k : k + 2], 16) / 255 for k in (0, 2, 4)]
            for code in (
                re.search("background:#(......)", style).group(1),
                re.search(";color:#(...)", style).group(1) * 2,
            )
        )
        low, high = sorted((luminance(ground), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) > 4


def test_html_shows_tokens_and_titles_as_text_whatever_they_are():
    attack = ["<script>alert(1)</script>", '" onmouseover="alert(1)', "&lt;", "</span><b>", "'", "$x^"]
    page = ks.tokens_html({"<i>": np.ones((1, 6))}, [attack], titles=["<img src=x>\nsecond"])
    parsed = Spans(page)
    assert [text for text, _, _ in parsed.spans] == attack
    assert set(parsed.tags) == {"div", "b", "small", "span", "br"}
    assert parsed.tags.count("b") == 1
    assert "&lt;img src=x&gt;<br>second" in page
    assert page._repr_html_() == str(page) == page


def test_html_has_numbers():
    assert [title for _, _, title in Spans(ks.tokens_html(VALUES, [WORDS])).spans] == ["0.4", "0", "-0.8", "0.1"]


def test_padding_is_left_out_and_its_relevance_is_not():
    tokens = [["", "", "good", "film"], ["good", "film", "", ""]]
    values = np.array([[0.0, 0.0, 1.0, -0.5], [0.5, 0.0, 0.5, 0.25]])
    _, words = boxes_of(ks.plot_tokens(values, tokens))
    assert words == ["good", "film", "good", "film", "[padding × 2]"]
    spans = Spans(ks.tokens_html(values, tokens)).spans
    assert [(text, title) for text, _, title in spans][-1] == ("[padding × 2]", "0.75")
    assert boxes_of(ks.plot_tokens(np.zeros((1, 2)), [["", ""]]))[1] == ["[padding × 2]"]


def test_white_space_is_seen():
    assert boxes_of(ks.plot_tokens(np.ones((1, 5)), [["a\nb", "\t", " ", "\r\n", "##ing"]]))[1] == [
        "a↵b",
        "⇥",
        "␣",
        "↵↵",
        "##ing",
    ]


def test_lines_are_filled_and_a_long_word_is_broken(rng):
    """Widths are numbers of characters here. Each line could not have taken the next word, and no letter is lost."""
    words = ["x" * length for length in rng.integers(1, 12, size=200)] + ["abcdefghijklmnopqrstuvwxyz" * 9, "end"]
    width, padding, space = 40.0, 0.04, 0.05
    found = places(words, len, width)
    for k, word in enumerate(words):
        assert "".join(place.text for place in found if place.word == k) == word
    for place, following in zip(found, found[1:]):
        end = place.left + place.width
        assert place.width == len(place.text) + 2 * padding and end <= width
        if following.line == place.line:
            assert following.left == pytest.approx(end + space)
        else:
            assert (following.line, following.left) == (place.line + 1, 0)
            assert end + space + following.width > width
    assert places(["wide"], lambda text: 100.0 * len(text), 10.0)[3].text == "e"


@pytest.mark.parametrize("width", [2, 8, 20])
def test_nothing_overlaps_and_nothing_leaves_the_figure(width, rng):
    words = [["".join(rng.choice(list("abcWM"), size=rng.integers(1, 15))) for _ in range(60)] for _ in range(2)]
    words[1][7] = "Donaudampfschifffahrtsgesellschaft" * 9
    titles = ["a title that is longer than there is space for it in a narrow figure " * 2, "two\nlines"]
    relevance = {"LRP": rng.normal(size=(2, 60)), "a method of a long name": rng.normal(size=(2, 60)) * 1e-9}
    figure = ks.plot_tokens(relevance, words, titles=titles, title="Headline", width=width)
    figure.canvas.draw()
    assert figure.get_figwidth() == width
    ticks = [label for axes in figure.axes for label in axes.get_xticklabels()]
    artists = [text for text in (*figure.texts, *ticks) if text.get_text()] + [axes.patch for axes in figure.axes]
    extents, edge = [artist.get_window_extent() for artist in artists], figure.bbox
    for i, box in enumerate(extents):
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        for other in extents[:i]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) < 1, (box, other)


def test_explanations_of_texts_and_of_several_targets(rng):
    """Shapley values of a model of tokens; embedded relevance is summed; a group of tokens has its value."""
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 3), layers.Flatten()])
    model.add(layers.Dense(3))
    ids = rng.integers(1, 9, size=(2, 4))
    vocabulary = np.array(["", "[UNK]", "the", "film", "is", "good", "bad", "very", "not"])
    values = ks.exact_shapley_values(model, ids, [[0, 2]], players=np.array([0, 0, 0, 1]))
    embedded = ks.LRP(model).explain(ids, 0).layers["embedding" if "embedding" in model.layers[0].name else ""]
    figure = ks.plot_tokens({"groups": values, "LRP": embedded}, vocabulary[ids])
    headings = [text.get_text() for text in figure.texts if text.get_transform() != figure.dpi_scale_trans]
    assert headings == ["groups, output 0", "groups, output 2", "LRP"] * 2
    colours, words = boxes_of(figure)
    assert words == [str(word) for row in vocabulary[ids] for _ in range(3) for word in row]
    rows = [row for i in range(2) for row in (*values.values[i].T[:, [0, 0, 0, 1]], embedded[i].sum(axis=-1))]
    assert colours == [colour for row in rows for colour in boxes_of(ks.plot_tokens(row[None], [WORDS]))[0]]


def test_texts_share_a_scale_if_they_are_asked_to():
    tokens, values = [["a", "b"], ["c", "d"]], np.array([[1.0, 0.0], [2.0, 0.0]])
    own, shared = (colours_in(ks.tokens_html(values, tokens, shared_scale=s)) for s in (False, True))
    assert own[0] == own[2] == shared[2] == boxes_of(ks.plot_tokens(values, tokens, shared_scale=True))[0][2]
    assert shared[0] != shared[2]


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(relevance=np.zeros((1, 3)), tokens=[["a", "b"]]), "1 lists of 3 strings.*'' for padding.*2"),
        (dict(relevance=np.zeros((2, 2)), tokens=[["a", "b"]]), "2 lists of 2"),
        (dict(relevance=np.zeros((1, 2)), tokens=["a", "b"]), r"`tokens`.*\[\['a', 'text'\]"),
        (dict(relevance=np.zeros((1, 2)), tokens=[[3, 4]]), "`tokens` must be strings.*get_vocabulary"),
        (dict(relevance=np.zeros((1, 2)), tokens=[[b"a", b"b"]]), "`tokens` must be strings"),
        (dict(relevance=np.zeros((1, 2)), tokens=None), "`tokens`"),
        (dict(relevance=np.zeros(2), tokens=[["a", "b"]]), "`relevance`"),
        (dict(relevance=np.zeros((0, 2)), tokens=[]), "`relevance`"),
        (dict(relevance=np.array([[0, np.nan]]), tokens=[["a", "b"]]), "`relevance`.*finite"),
        (dict(relevance=np.zeros((1, 2)), tokens=[["a", "b"]], titles="x"), "`titles`"),
        (dict(relevance={}, tokens=[["a", "b"]]), "`relevance`"),
    ],
)
def test_bad_input_is_named(arguments, word):
    for draw in (ks.plot_tokens, ks.tokens_html):
        with pytest.raises(ValueError, match=word):
            draw(**arguments)


@pytest.mark.parametrize("width", [0, 1.9, np.inf, np.nan])
def test_a_width_that_holds_no_words_is_refused(width):
    with pytest.raises(ValueError, match="`width`"):
        ks.plot_tokens(VALUES, [WORDS], width=width)
