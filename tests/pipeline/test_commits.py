import shutil

import pytest

from alps.execute import execute
from alps.models.checkpoint import materialize
from alps.runs.folder import RunFolder
from alps.runs.result import RunFailed
from alps.training.fit import fit


def test_a_revision_that_means_another_commit_is_refused_half_way(make_run, tmp_path):
    """A folder called snapshots is how the hub's cache keeps commits."""
    first, second = (tmp_path / "snapshots" / (digit * 40) for digit in "ab")
    shutil.copytree(materialize(make_run().model), first)
    settings = ("method=full", "optim.max_steps=1")
    run = make_run(*settings, f"model.path={first}")
    key, folder = run.key, RunFolder(run.folder)
    assert execute(run, fit).commits == {"model": "a" * 40}
    first.rename(second)
    moved = make_run(*settings, f"model.path={second}")
    assert moved.key == key and execute(moved, fit).commits == {"model": "a" * 40}
    folder.training_path.unlink()
    with pytest.raises(RunFailed, match=r"was aaaaaaaaaaaa .* set model\.revision=a{40}, or"):
        execute(moved, fit)
