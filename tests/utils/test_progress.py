"""The progress bar."""

from keras_shapley.utils import progress


def test_quick_work_shows_no_bar(capsys):
    bar = progress.Progress(3, "step", show=True)
    for _ in range(3):
        bar.add()
    assert capsys.readouterr().out == ""


def test_longer_work_shows_a_bar(capsys, monkeypatch):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = progress.Progress(3, "step", show=True)
    bar.add()
    bar.add(2)
    assert "3/3" in capsys.readouterr().out


def test_no_bar_where_none_is_wanted(capsys, monkeypatch):
    clock = iter(range(0, 100, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    progress.Progress(3, "step", show=False).add(3)
    assert capsys.readouterr().out == ""
