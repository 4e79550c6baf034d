"""Pictures for TensorBoard. Apart from `backend/`, this is the only module that names TensorFlow."""

import pathlib
from collections.abc import Mapping


class TensorBoardImages:
    """Writes pictures to a log directory of TensorBoard.

    Raises:
        ValueError: if TensorFlow or TensorBoard is not installed.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        try:
            # tf.summary imports it when it writes
            import tensorboard  # noqa: F401
            import tensorflow as tf
        except ImportError as error:
            raise ValueError(
                f"`tensorboard_dir` needs TensorFlow and TensorBoard, and {error.name!r} cannot be imported: install "
                "it, or pass tensorboard_dir=None."
            ) from None
        self._tf = tf
        self._directory = directory
        self._writer = None

    def write(self, pictures: Mapping[str, bytes], step: int) -> None:
        """Adds pictures, contents of PNG files by the names of their tags."""
        tf = self._tf
        if self._writer is None:
            # it makes a file, which a training without pictures does not need
            self._writer = tf.summary.create_file_writer(str(self._directory))
        with self._writer.as_default():
            for tag, picture in pictures.items():
                tf.summary.image(tag, tf.io.decode_png(picture, channels=3)[None], step=step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
