"""Relevance arrays to pictures. Matplotlib is imported when something is drawn, and no window is ever opened."""

import io

import numpy as np

COLOUR_ENTRIES = 255


def animated(pictures, seconds=0.5):
    """Pictures one after the other, for ever; the last stands still for a while.

    Args:
        pictures: contents of PNG files, bytes.
        seconds: of each but the last.

    Returns:
        The content of a GIF file, bytes. All frames have the size of the largest, with white around the others.
    """
    # a part of Matplotlib
    from PIL import Image

    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    size = tuple(max(sizes) for sizes in zip(*(frame.size for frame in frames)))
    whole = [Image.new("RGB", size, "white") for _ in frames]
    for canvas, frame in zip(whole, frames):
        canvas.paste(frame)
    # one palette for all: colours that flicker would look like relevance
    colours = np.reshape(whole[-1].quantize(COLOUR_ENTRIES).getpalette(), (-1, 3))
    # Pillow takes colours four by four: beside a nearly white entry, white would be lost
    colours[colours.min(axis=1) >= 248] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    whole = [canvas.quantize(palette=palette, dither=Image.Dither.NONE) for canvas in whole]
    times = [round(1000 * seconds)] * (len(whole) - 1) + [round(4000 * seconds)]
    file = io.BytesIO()
    whole[0].save(file, "GIF", save_all=True, append_images=whole[1:], duration=times, loop=0)
    return file.getvalue()
