"""Two writers to one path: every file is whole, and one of the two versions."""

import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable

import pytest

from keras_shapley.utils import files as package_files
from lab import files as lab_files

pytestmark = pytest.mark.once

N_FILES = 200
SIZES = (10_000, 17_000)


def version(writer: int, number: int) -> bytes:
    """What a writer puts into a file, of another size than the other writer's."""
    return f"{writer} {number:03} ".encode() * SIZES[writer]


def package_write(path: pathlib.Path, content: bytes) -> None:
    package_files.write(path, content)


def lab_write(path: pathlib.Path, content: bytes) -> None:
    lab_files.write(path, content.decode())


def write_all(write: Callable[[pathlib.Path, bytes], None], folder: pathlib.Path, writer: int, meet: Callable) -> None:
    for number in range(N_FILES):
        # both begin each file together
        meet()
        write(folder / f"{number:03}", version(writer, number))


def check(folder: pathlib.Path) -> None:
    """All files are there and whole, and nothing else is."""
    assert sorted(os.listdir(folder)) == [f"{number:03}" for number in range(N_FILES)]
    for number in range(N_FILES):
        assert (folder / f"{number:03}").read_bytes() in (version(0, number), version(1, number))


@pytest.mark.parametrize("write", [package_write, lab_write])
def test_two_threads_write_whole_files(write, tmp_path):
    barrier, errors = threading.Barrier(2, timeout=60), []

    def work(writer: int) -> None:
        try:
            write_all(write, tmp_path, writer, barrier.wait)
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    check(tmp_path)


# the children do nothing but write
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("write", [package_write, lab_write])
def test_two_processes_write_whole_files(write, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2, timeout=60)
    workers = [context.Process(target=write_all, args=(write, tmp_path, writer, barrier.wait)) for writer in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    check(tmp_path)


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, seen, done = tmp_path / "file", set(), threading.Event()
    package_files.write(path, version(0, 0))

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        package_files.write(path, version(number % 2, number % 3))
    done.set()
    reader.join()
    assert seen <= {version(writer, number) for writer in range(2) for number in range(3)}
