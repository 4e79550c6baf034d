"""What is made once for a model, such as compiled functions, and kept with it."""

import functools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import FunctionType
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from keras_shapley.models.keras_internals import sublayers
from keras_shapley.utils.typing import Operation

# where a model keeps what was made for it; Keras neither tracks nor saves such a name
_KEPT = "__keras_shapley__"
# what is kept of one model; what was used longest ago goes first
_MOST_ENTRIES = 64
_PLAIN = (bool, int, float, str, tuple, type(None), FunctionType, np.generic, np.ndarray)
# what training and prediction store in a model beside what a new one has, and PyTorch in every layer
_OF_TRAINING = {"history", "stop_training", "stop_evaluating", "stop_predicting", "training"}

Made = TypeVar("Made")


class _Kept:
    """What was made for a model, by key, with the parts of the model that it was made of. It is never copied."""

    def __init__(self) -> None:
        self.entries: dict[Hashable, tuple[list[Any], Any]] = {}
        # of threads that explain one model; what is made may need something else that is kept
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: Any) -> "_Kept":
        return _Kept()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()


def kept(
    model: keras.Model,
    key: Hashable,
    make: Callable[[], Made],
    owner: Any = None,
    parts: list[Any] | None = None,
) -> Made:
    """What `make` returns, made once and kept with the model until it dies, or until 64 others were used since.

    It is made again once the model has other variables or layers, or a layer another setting, such as an activation.
    New values of the variables change nothing, so what is made must read them when it is called, as compiled functions
    do. For a layer or model that changes an attribute of its own at each call it is made again each time.

    Args:
        model: the model.
        key: of what is made; for the same key `make` makes the same.
        make: makes it.
        owner: an object with which it is kept and dies; by default the model.
        parts: of the model, where the caller has them.
    """
    # not an attribute that Keras would track. A WeakKeyDictionary would never let go: what is made refers to the model
    store = (model if owner is None else owner).__dict__.setdefault(_KEPT, _Kept())
    parts = parts_of(model) if parts is None else parts
    with store.lock:
        entry = store.entries.pop(key, None)
        if entry is None or not are_same(entry[0], parts):
            entry = parts, make()
        store.entries[key] = entry
        if len(store.entries) > _MOST_ENTRIES:
            del store.entries[next(iter(store.entries))]
    return entry[1]


def are_same(parts: list[Any], others: list[Any]) -> bool:
    """Whether two lists of `parts_of` have the same parts."""
    return len(parts) == len(others) and all(a is b for a, b in zip(parts, others))


def parts_of(model: keras.Model) -> list[Any]:
    """What a function of a model is compiled from, beside the values of its variables."""
    layers = sublayers(model)
    settings = [value for layer in layers for value in _settings(layer)]
    return [*model.variables, *layers, *settings]


def _settings(layer: Operation) -> list[Any]:
    """The values of the options of a layer or model, and of what its user made an attribute of it."""
    common = [getattr(layer, name, None) for name in ("activation", "dtype_policy")]
    # Keras's own attributes of a model are about training
    others = _of_every_model() if isinstance(layer, keras.Model) else _OF_TRAINING
    own = [value for name, value in vars(layer).items() if name[0] != "_" and name not in others]
    # a tensor of Keras's own is a constant, such as a mean; layers of users may store what they last computed
    are_constants = type(layer).__module__.startswith("keras.")
    return common + [v for v in _elements(own) if isinstance(v, _PLAIN) or (are_constants and ops.is_tensor(v))]


@functools.cache
def _of_every_model() -> frozenset[str]:
    return frozenset(vars(keras.Sequential())) | _OF_TRAINING


def _elements(values: Iterable[Any]) -> Iterator[Any]:
    """The values, and in the place of a list or dict those in it."""
    for value in values:
        if isinstance(value, (list, dict)):
            yield from _elements(value.values() if isinstance(value, dict) else value)
        else:
            yield value
