"""`benchmarks/evaluation_rates.py`: that both ways give the same values, and what the table says. Never how fast."""

import json

import pytest

from benchmarks import evaluation_rates as script
from lab import measuring


@pytest.mark.once
def test_both_ways_are_measured_and_the_table_is_made_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "PATHS", 2)
    monkeypatch.setattr(script, "REPEATS", 2)
    # threads are fixed once in a process
    monkeypatch.setattr(measuring, "fix_threads", lambda n: None)
    assert script.main(["--activations", "relu", "sa_pooled", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "evaluation_rates.json").read_text())["torch"]
    assert [row["activation"] for row in record["rows"]] == ["relu", "sa_pooled"]
    for row in record["rows"]:
        assert row["ratio"] == pytest.approx(row["rates"]["rows"] / row["rates"]["naive"], rel=1e-3)
    text = (tmp_path / "evaluation_rates.md").read_text()
    assert text in capsys.readouterr().out and "| torch | sa_pooled |" in text
    (tmp_path / "evaluation_rates.md").unlink()
    assert script.main(["--table", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "evaluation_rates.md").read_text() == text


def test_nothing_measured_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "evaluation_rates.json holds no measurement" in capsys.readouterr().err
