"""Steps are done once, in order, and a rerun goes on; the display says which of how many and how long still."""

import io

import pytest

from nnunet_partial.demo.progress import Progress, in_words, remaining_seconds
from nnunet_partial.demo.steps import Step, run_steps


class Work:
    """Steps that only write down that they were done; one of them may fail."""

    def __init__(self, fails: str = ""):
        self.fails, self.did = fails, []

    def steps(self):
        return [Step(name, f"do {name}", 10, lambda report, name=name: self.work(name, report)) for name in "abc"]

    def work(self, name, report):
        report(0.5, "half")
        if name == self.fails:
            raise RuntimeError(f"{name} broke")
        self.did.append(name)


def run(work, tmp_path):
    stream = io.StringIO()
    run_steps(work.steps(), tmp_path / "steps", stream=stream)
    return stream.getvalue()


def test_steps_run_in_order_and_say_so(tmp_path):
    work = Work()
    said = run(work, tmp_path)
    assert work.did == ["a", "b", "c"]
    assert "[1/3] do a" in said
    assert "[3/3] do c" in said
    assert "left in all" in said


def test_a_finished_step_is_not_done_again(tmp_path):
    with pytest.raises(RuntimeError, match="b broke"):
        run(Work(fails="b"), tmp_path)
    again = Work()
    said = run(again, tmp_path)
    assert again.did == ["b", "c"]
    assert "done before" in said
    nothing = Work()
    run(nothing, tmp_path)
    assert nothing.did == []


def test_what_stands_on_a_repeated_step_is_repeated(tmp_path):
    run(Work(), tmp_path)
    (tmp_path / "steps" / "b.json").unlink()
    again = Work()
    run(again, tmp_path)
    assert again.did == ["b", "c"]


def test_an_interrupted_later_step_does_not_keep_an_old_marker(tmp_path):
    run(Work(), tmp_path)
    (tmp_path / "steps" / "a.json").unlink()
    with pytest.raises(RuntimeError):
        run(Work(fails="b"), tmp_path)
    again = Work()
    run(again, tmp_path)
    assert again.did == ["b", "c"]


@pytest.mark.parametrize(
    ("expected", "done", "elapsed", "remaining"),
    [
        ([100, 100], [0, 0], 0, 200),
        ([100, 100], [1, 0], 100, 100),  # as fast as expected
        ([100, 100], [1, 0], 220, 200),  # (220 + 20) / (100 + 20): half as fast
        ([100, 100], [1, 1], 300, 0),
        ([0, 100], [1, 0], 0, 100),  # done by an earlier run
    ],
)
def test_remaining_seconds(expected, done, elapsed, remaining):
    assert remaining_seconds(expected, done, elapsed) == pytest.approx(remaining)


@pytest.mark.parametrize(("seconds", "words"), [(2, "5 s"), (42, "40 s"), (58, "about 1 min"), (400, "about 7 min")])
def test_in_words(seconds, words):
    assert in_words(seconds) == words


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_one_line_a_step_and_a_log_few_lines():
    now = [0.0]
    for stream, lines in ((Terminal(), 1), (io.StringIO(), 6)):
        progress = Progress(["work"], [100], stream=stream, clock=lambda: now[0])
        for second in range(100):
            now[0] += 1
            progress.update(0, second / 100, f"item {second}")
        progress.finish(0, 100)
        assert stream.getvalue().count("\n") == lines


def test_a_narrow_terminal_gets_no_line_that_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    progress = Progress(["a title of some length"], [100], stream=stream)
    progress.update(0, 0.5, "with a long detail behind it " * 3)
    progress.finish(0, 100)
    assert max(len(line) for line in stream.getvalue().replace("\n", "\r").split("\r")) < 50
