import pytest

from alps.settings.infrastructure import Evals, Logger, Trainer


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Trainer(devices=0), "trainer.devices must be at least 1, got 0"),
        (Trainer(micro_batch_size=-1), "trainer.micro_batch_size must be at least 1, got -1"),
        (
            Trainer(checkpoint_every_n_steps=0),
            "trainer.checkpoint_every_n_steps must be at least 1, got 0",
        ),
        (Evals(batch_size=0), "evals.batch_size must be at least 1, got 0"),
        (Evals(every_n_epochs=0), "evals.every_n_epochs must be at least 1, got 0"),
        (Evals(epoch_limit=0), "evals.epoch_limit must be at least 1, got 0"),
        (Evals(data_dir="not/there"), "evals.data_dir: not/there is not a folder"),
    ],
)
def test_a_part_says_what_cannot_be_used(part, problem):
    assert list(part.problems()) == [problem]


@pytest.mark.parametrize(
    "part",
    [Trainer(), Trainer(micro_batch_size="auto"), Evals(), Evals(data_dir="."), Logger()],
)
def test_a_part_that_can_be_used_has_no_problem(part):
    assert list(part.problems()) == []


def test_the_folder_of_documents_may_begin_with_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Evals(data_dir="~/documents").documents_dir == tmp_path / "documents"
    assert Evals().documents_dir is None
