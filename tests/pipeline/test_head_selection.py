import shutil

import pytest

from alps.execute import choose_heads
from alps.localization import cache
from alps.pipeline.head_selection import heads_without_training
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.training.fit import fit


def test_heads_are_known_without_a_run_that_chooses_them(make_run, make_trained, monkeypatch):
    run = make_run("method=alps", "ratio=0.3")
    with pytest.raises(RunFailed, match="has no trained weights yet"):
        heads_without_training(run)
    assert not run.folder.exists()
    task = make_trained("method=full")
    found = heads_without_training(run)
    assert found == choose_heads(run, fit) and len(found.heads) == 5
    assert not run.folder.exists()  # nothing trained

    def never(*_, **__):
        raise AssertionError("computed twice")

    monkeypatch.setattr(cache, "localize_metrics", never)
    assert heads_without_training(run) == found
    assert len(heads_without_training(make_run("method=alps", "ratio=0.5")).heads) == 8
    shutil.rmtree(RunFolder(task.folder).weights_path.parent)
    assert heads_without_training(run) == found  # the scores are enough
    shutil.rmtree(run.folder.parents[1] / "scores")
    with pytest.raises(RunFailed, match=r"weights of .*full-.* were deleted \(weights=drop\)"):
        heads_without_training(run)


def test_the_heads_of_a_run_that_chose_some_are_its_own(make_trained):
    run = make_trained("method=alps", "ratio=0.3")
    own = RunFolder(run.folder).read_heads()
    shutil.rmtree(run.task_run().folder)
    shutil.rmtree(run.folder.parents[1] / "scores")
    assert heads_without_training(run) == own
