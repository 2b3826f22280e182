"""Bars: what the first process shows, and that the others show nothing."""

import io

from rich.console import Console

from ccnet.runtime import progress


def test_a_terminal_shows_a_bar_before_the_number_is_known(monkeypatch):
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with progress.counting("predicting") as count:
        assert count is not None
        count.bar.refresh()
        assert "0/?" in shown.getvalue()
        with count.part("large.tif"):
            count(1, 2)
            count.bar.refresh()
    assert "1/2" in shown.getvalue()
    assert "large.tif" in shown.getvalue()


def test_one_process_counts_its_images(capsys):
    with progress.counting("predicting") as count:
        assert count is not None
        count(1, 2)
        count(2, 2)
    assert capsys.readouterr().err == "predicting: 2/2\n"


def test_a_part_of_the_work_has_a_bar_of_its_own(monkeypatch, capsys):
    with progress.counting("predicting") as count:
        assert count is not None
        with count.part("big [red].tif\n") as tiles:
            assert [task.description for task in count.bar.tasks][1].startswith("big \\[red].tif")
            tiles(3, 8)
            tiles(8, 8)
        assert len(count.bar.tasks) == 1
    assert capsys.readouterr().err == "big [red].tif\\n: 8/8\n"


def test_of_several_processes_the_first_counts_its_own_share(monkeypatch, capsys):
    monkeypatch.setattr(progress, "num_processes", lambda: 3)
    with progress.counting("predicting") as count:
        assert count is not None
        count(2, 2)
    assert capsys.readouterr().err == "predicting (1 of 3): 2/2\n"
    monkeypatch.setattr(progress, "rank", lambda: 1)
    with progress.counting("predicting") as count:
        assert count is None
