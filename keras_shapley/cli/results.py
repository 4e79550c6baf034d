"""The files that the command writes: pictures, tables and arrays."""

import argparse
import csv
import io
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_shapley.cli.inputs import Images, Table, in_data_format
from keras_shapley.plotting.arrays import height_and_width, relevance_maps
from keras_shapley.plotting.bars import plot_bars, what_bars_show
from keras_shapley.plotting.files import npz_content, png_content
from keras_shapley.plotting.heatmaps import plot_heatmaps
from keras_shapley.utils.command_lines import printable
from keras_shapley.utils.files import write
from keras_shapley.utils.structures import leaves
from keras_shapley.utils.wording import count

_SUFFIXES = (".png", ".csv", ".json", ".npz")
# images with a shorter side than this have no map of patches; others have as many patches on that side
_SMALL = 64
_PATCHES = 14


class Attributions(NamedTuple):
    """Attributions of all inputs, and what they are.

    Attributes:
        values: of each element, in the structure and shape of the inputs.
        stderr: of the players, `(batch, players)`; None if there are none.
        target: output indices, shape `(batch,)`.
        output: `(batch, *output)`.
        probability: the same, if the output is one; else None.
        total: what the values sum to, shape `(batch,)`.
        heading: method, rules and baseline, for a headline.
        summary: the same, and how far to trust it.
        players: values of the players, `(batch, players)`; None if each element is one.
    """

    values: Any
    stderr: np.ndarray | None
    target: np.ndarray
    output: np.ndarray
    probability: np.ndarray | None
    total: np.ndarray
    heading: str
    summary: str
    players: np.ndarray | None


def write_images(inputs: Images, found: Attributions, titles: Sequence[str], args: argparse.Namespace) -> None:
    """Writes a picture of each image, and the results that are asked for."""
    images = in_data_format(inputs.pixels)
    patch_size = None if found.players is not None else _patch_size(images)
    for i, path in enumerate(_paths([path.stem for path in inputs.paths], args)):
        each = slice(i, i + 1)
        figure = plot_heatmaps(
            found.values[each],
            images[each],
            titles=titles[each],
            title=found.heading,
            percentile=99,
            patch_size=patch_size,
            overlay=args.overlay,
        )
        write(path, png_content(figure))
        for kind in args.results:
            write(path.with_suffix(f".{kind}"), _RESULTS[kind](inputs, found, titles, i))
        print(printable(f"{path}  {', '.join(titles[i].splitlines())}"))


def write_table(inputs: Table, found: Attributions, titles: Sequence[str], args: argparse.Namespace) -> None:
    """Writes a table of values and a bar chart, and the results that are asked for."""
    values = _by_column(found)
    (path,) = _paths([inputs.path.stem], args)
    # with the standard errors, if there are any
    shown = found._replace(values=values)
    figure = plot_bars(shown, titles=titles, title=found.heading, feature_names=inputs.columns)
    write(path, png_content(figure))
    print(printable(f"{path}  {what_bars_show(titles)}"))
    header = ["row", "explained", *inputs.columns]
    # lists of numbers, as columns may share a name
    records = [
        {"row": i, "explained": title.splitlines()[0], "values": row}
        for i, (title, row) in enumerate(zip(titles, values.tolist()), start=1)
    ]
    if found.stderr is not None:
        header += [f"{name}, standard error" for name in inputs.columns]
        records = [{**record, "stderr": errors} for record, errors in zip(records, found.stderr.tolist())]
    rows = [[each["row"], each["explained"], *each["values"], *each.get("stderr", [])] for each in records]
    write(path.with_suffix(".csv"), _csv([header, *rows]))
    size = f"{count(len(values), 'row')} and {count(len(inputs.columns), 'column')}"
    print(printable(f"{path.with_suffix('.csv')}  values of {size}"))
    if "json" in args.results:
        described = {"explanation": found.summary, "columns": inputs.columns, "rows": records}
        write(path.with_suffix(".json"), _json(described))
    if "npz" in args.results:
        write(path.with_suffix(".npz"), npz_content(values=values, **_record(found)))


def _by_column(found: Attributions) -> np.ndarray:
    """Values `(rows, columns)`, of one input or of several."""
    arrays = [values.reshape(len(values), -1) for values in leaves(found.values)]
    return np.concatenate(arrays, axis=1)


def _parts(inputs: Images, found: Attributions, i: int) -> list[dict[str, Any]]:
    """The values of an image's players, patches or pixels."""
    if found.players is not None and found.players.shape[1] != found.values[i].size:
        errors = found.stderr[i] if found.stderr is not None else None
        parts = [{"player": n, "value": float(value)} for n, value in enumerate(found.players[i])]
        return parts if errors is None else [{**part, "stderr": float(e)} for part, e in zip(parts, errors)]
    images = in_data_format(inputs.pixels)[i : i + 1]
    heatmap = relevance_maps(found.values[i : i + 1], images)[0].values[0]
    size = _patch_size(images) or 1
    starts = [range(0, n, size) for n in heatmap.shape]
    sums = np.add.reduceat(np.add.reduceat(heatmap.astype("float64"), starts[0], 0), starts[1], 1)
    return [
        {"row": row * size, "column": column * size, "size": size, "value": float(value)}
        for (row, column), value in np.ndenumerate(sums)
    ]


def _image_csv(inputs: Images, found: Attributions, titles: Sequence[str], i: int) -> bytes:
    parts = _parts(inputs, found, i)
    return _csv([list(parts[0]), *(list(part.values()) for part in parts)])


def _image_json(inputs: Images, found: Attributions, titles: Sequence[str], i: int) -> bytes:
    record = {
        "image": str(inputs.paths[i]),
        "explained": titles[i].splitlines()[0],
        "target": int(found.target[i]),
        "output": np.asarray(found.output[i], "float64").tolist(),
        "total": float(found.total[i]),
        "explanation": found.summary,
        "values": _parts(inputs, found, i),
    }
    return _json(record)


def _image_npz(inputs: Images, found: Attributions, titles: Sequence[str], i: int) -> bytes:
    name = "relevance" if found.players is None else "values"
    return npz_content(**{name: found.values[i]}, **{key: value[i] for key, value in _record(found).items()})


_RESULTS: dict[str, Callable[[Images, Attributions, Sequence[str], int], bytes]] = {
    "csv": _image_csv,
    "json": _image_json,
    "npz": _image_npz,
}


def _record(found: Attributions) -> dict[str, np.ndarray]:
    """The arrays that stand beside the values."""
    arrays = {name: getattr(found, name) for name in ("output", "target", "probability", "stderr")}
    return {name: array for name, array in arrays.items() if array is not None}


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def _json(record: dict[str, Any]) -> bytes:
    # values and outputs are finite, as was checked
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _patch_size(images: np.ndarray) -> int | None:
    """Size of the patches that are drawn beside the pixels; None for images so small that pixels can be seen."""
    side = min(height_and_width(images.shape))
    return side // _PATCHES if side >= _SMALL else None


def _paths(stems: Sequence[str], args: argparse.Namespace) -> Iterator[pathlib.Path]:
    """A file for each input, by its name. A number sets it apart from the user's files and from other results."""
    used = {_real(path) for path in (args.model, args.classes, *args.inputs) if path is not None}
    used |= {_real(file) for path in args.inputs if path.is_dir() for file in path.iterdir()}
    for stem in stems:
        path, number = args.out / f"{stem}.png", 1
        while any(_is_taken(path.with_suffix(kind), used, args.overwrite) for kind in _SUFFIXES):
            number += 1
            path = args.out / f"{stem}_{number}.png"
        used.add(_real(path))
        yield path


def _is_taken(path: pathlib.Path, used: set[str], overwrite: bool) -> bool:
    return _real(path) in used or (path.exists() and not overwrite)


def _real(path: pathlib.Path) -> str:
    """Where a path leads. `Path.resolve` raises an error for links in a circle."""
    return os.path.realpath(path)
