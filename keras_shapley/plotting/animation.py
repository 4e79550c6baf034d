"""Pictures joined to an animation."""

import io
from collections.abc import Sequence

import numpy as np

_N_COLOURS = 255


def animated_gif(pictures: Sequence[bytes], seconds: float = 0.5) -> bytes:
    """The content of a GIF file that shows pictures in turn, for ever.

    Args:
        pictures: contents of PNG files. A smaller picture is shown in the top left corner of a white frame.
        seconds: how long each picture is shown; the last one is shown four times as long.
    """
    # installed with Matplotlib
    from PIL import Image

    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    frames = [Image.new("RGB", (width, height), "white") for _ in images]
    for frame, image in zip(frames, images):
        frame.paste(image)

    # one palette for all frames: a colour that flickers would look like a change of relevance
    colours = np.array(frames[-1].quantize(_N_COLOURS).getpalette()).reshape(-1, 3)
    # Pillow matches colours coarsely, so that a nearly white entry would take the place of white
    colours[colours.min(axis=1) >= 248] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]

    durations = [round(1000 * seconds)] * len(others) + [round(4000 * seconds)]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return file.getvalue()
