"""Players: words for groups, grids over images, masks, and several inputs."""

import keras
import numpy as np
import pytest

import keras_shapley as ks
from keras_shapley.shapley.players import Players


@pytest.fixture
def channels(request):
    """Sets the image data format, and sets it back."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(request.param)
    yield request.param
    keras.config.set_image_data_format(before)


def grid_by_hand(height, width, rows, columns):
    """Pixel `i` of `height` is in row `i * rows // height`, by loops."""
    numbers = np.zeros((height, width), int)
    for i in range(height):
        for j in range(width):
            numbers[i, j] = (i * rows // height) * columns + j * columns // width
    return numbers


@pytest.mark.parametrize("channels", ["channels_last", "channels_first"], indirect=True)
@pytest.mark.parametrize("players, rows, columns", [("patches", 7, 7), (3, 3, 3), (1, 1, 1), (np.int64(5), 5, 5)])
def test_a_grid_covers_the_pixels_of_an_image(players, rows, columns, channels):
    plane = grid_by_hand(9, 14, rows, columns)
    assert np.array_equal(Players(players, (9, 14)).numbers, plane)
    shape = (9, 14, 3) if channels == "channels_last" else (3, 9, 14)
    table = Players(players, shape)
    axis = -1 if channels == "channels_last" else 0
    for channel in range(3):
        np.testing.assert_array_equal(np.take(table.numbers, channel, axis=axis), plane)
    assert table.n == rows * columns and table.are_groups


def test_patches_of_a_small_image_are_pixels():
    assert Players("patches", (4, 30, 1)).n == 4 * 7


def test_tokens_are_steps_over_all_further_axes():
    np.testing.assert_array_equal(Players("tokens", (3,)).numbers, [0, 1, 2])
    np.testing.assert_array_equal(Players("tokens", (3, 2)).numbers, [[0, 0], [1, 1], [2, 2]])


def test_players_of_several_inputs_are_numbered_across_them():
    shapes, skeleton = [(2,), (3, 4), ()], {"a": 0, "b": [1, 2]}
    elements = Players(None, shapes, skeleton)
    assert elements.n == 2 + 12 + 1 and not elements.are_groups
    np.testing.assert_array_equal(elements.numbers["b"][1], 14)
    inputs = Players("inputs", shapes, skeleton).numbers
    assert (inputs["a"] == 0).all() and (inputs["b"][0] == 1).all() and inputs["b"][1] == 2

    # a player with elements in two inputs, and players of words behind those that are given
    given = Players({"a": [1, 0], "b": ["tokens", np.array(1)]}, shapes, skeleton)
    np.testing.assert_array_equal(given.parts[0], [1, 0])
    np.testing.assert_array_equal(given.parts[1][:, 0], [2, 3, 4])
    assert given.parts[2] == 1 and given.n == 5


def test_masks_of_several_inputs_may_be_empty_in_one_of_them():
    masks = [np.array([[True, False], [False, True], [False, False]]), np.array([[False], [True], [True]])]
    with pytest.raises(ValueError, match="0 elements in none, 1 in several"):
        Players(masks, [(2,), (1,)], [0, 1])
    masks[1][1] = False
    table = Players(masks, [(2,), (1,)], [0, 1])
    assert [part.tolist() for part in table.parts] == [[0, 1], [2]]


@pytest.mark.parametrize("seed", range(3))
def test_sums_and_shares_are_those_by_loops(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(np.arange(12) % 5).reshape(4, 3), np.array([2, 0])
    table = Players([first, second], [(4, 3), (2,)], [0, 1])
    values = [rng.normal(size=(2, 3, 4, 3)), rng.normal(size=(2, 3, 2))]
    sums = table.sums(values, 2)
    for k in range(5):
        expected = values[0][:, :, first == k].sum(axis=2) + values[1][:, :, second == k].sum(axis=2)
        np.testing.assert_allclose(sums[..., k], expected, atol=1e-12)
    spread = table.spread(sums)
    assert spread[0][1, 2, 3, 1] == sums[1, 2, first[3, 1]] and spread[1][0, 0, 1] == sums[0, 0, 0]


@pytest.mark.parametrize(
    "players, shape, message",
    [
        ("pixels", (4, 4), "must be None, one of 'patches', 'tokens', 'inputs', .*Received: players='pixels'"),
        ("patches", (5,), r"players='patches' is a grid over an image .*of shape \(5,\)"),
        (2, (2, 3, 4, 5), r"players=2 is a grid over an image .*of shape \(2, 3, 4, 5\)"),
        (5, (4, 6, 1), "grid of 1 to 4 rows and columns for an image of 4 x 6 pixels. Received: players=5"),
        (0, (4, 6), "grid of 1 to 4 rows and columns"),
        (True, (4, 6), r"`players` must be integers of shape \(4, 6\).*Received: bool of shape \(\)"),
        (2.0, (4, 6), r"`players` must be integers of shape \(4, 6\).*Received: float64"),
        ([[True, False], [False, True], [False, False]], (2,), "without a gap, and no mask be empty"),
        ([[False, False], [True, False], [False, True]], (2,), "without a gap, and no mask be empty"),
        ([[True, True], [False, True]], (2,), "0 elements in none, 1 in several"),
        ([0, 2], (2,), "numbered from 0 without a gap"),
        ([0, -1], (2,), "numbered from 0 without a gap"),
        ([-1, 0, 1], (3,), "numbered from 0 without a gap"),
    ],
)
def test_players_that_are_none_are_named(players, shape, message):
    with pytest.raises(ValueError, match=message):
        Players(players, shape)


def test_tokens_need_steps():
    with pytest.raises(ValueError, match="players='tokens' needs sequences"):
        Players("tokens", [(3,), ()], [0, 1])


@pytest.mark.parametrize(
    "players, message",
    [
        (np.zeros(3, int), "`players` must be a dict with the inputs' keys .*'a', 'b'.*Received: ndarray"),
        ({"a": None}, r"Received: keys \['a'\]"),
        ({"a": None, "b": "patches"}, "is a grid over an image"),
        ({"a": [0, 2], "b": None}, "numbered from 0 without a gap"),
    ],
)
def test_players_of_several_inputs_that_do_not_fit_are_named(players, message):
    with pytest.raises(ValueError, match=message):
        Players(players, [(2,), (3,)], {"a": 0, "b": 1})


@pytest.mark.parametrize("players", ["patches", 3, "tokens", "inputs"])
def test_words_are_the_players_that_they_name(players):
    """Every function takes them, with the values of the same numbers."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.Flatten(), keras.layers.Dense(2, "tanh")])
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    numbers = Players(players, (3, 4)).numbers
    for function, options in (
        (ks.exact_shapley_values, {}),
        (ks.sampled_shapley_values, {"n_paths": 4}),
        (ks.fast_shapley_values, {"n": 2}),
    ):
        result, expected = (function(model, x, 0, players=each, **options) for each in (players, numbers))
        np.testing.assert_array_equal(result.values, expected.values)
        np.testing.assert_array_equal(result.players, numbers)


@pytest.mark.parametrize("channels", ["channels_first"], indirect=True)
@pytest.mark.parametrize("size", [4, 3])
def test_numbers_of_pixels_serve_every_channel_wherever_channels_are(channels, size):
    plane = np.arange(size * size).reshape(size, size) // 2
    for given in (plane, np.stack([plane == k for k in range(plane.max() + 1)])):
        numbers = Players(given, (3, size, size)).numbers
        np.testing.assert_array_equal(numbers, np.broadcast_to(plane, (3, size, size)))
    if size != 3:
        with pytest.raises(ValueError, match="of it without the channels"):
            Players(np.zeros((3, size), int), (3, size, size))
    # a series has its channels last in either format
    np.testing.assert_array_equal(Players(np.arange(5), (5, 2)).numbers[:, 1], np.arange(5))
