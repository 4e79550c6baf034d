"""`lab/environment.py`: what the record of a result says of the code that made it."""

import subprocess

from lab import environment


def test_a_commit_is_marked_where_code_has_changed_and_not_where_results_were_written(tmp_path, monkeypatch):
    def git(*words):
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for folder in ("lab", "results"):
        (tmp_path / "reproduce" / folder).mkdir(parents=True)
    script, row = tmp_path / "reproduce" / "lab" / "script.py", tmp_path / "reproduce" / "results" / "rows.jsonl"
    script.write_text("1"), row.write_text("1")
    git("init", "-q"), git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qm", "first")
    monkeypatch.setattr(environment, "__file__", str(script))
    expected = git("rev-parse", "--short=12", "HEAD")
    row.write_text("2")
    assert environment.commit() == expected
    script.write_text("2")
    assert environment.commit() == f"{expected}+"


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "lab" / "script.py"))
    (tmp_path / "lab").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.commit() is None
