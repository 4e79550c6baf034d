"""Where arrays have their channels."""

import keras


def channel_axis(ndim: int) -> int:
    """The axis of the channels of one input, without the batch: the last one, or the first in `channels_first`.

    Args:
        ndim: number of axes of the input. With two, as of a series, channels are last in either format.
    """
    is_first = ndim > 2 and keras.config.image_data_format() == "channels_first"
    return 0 if is_first else ndim - 1


def without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one input without its channels."""
    axis = channel_axis(len(shape))
    return shape[:axis] + shape[axis + 1 :]
