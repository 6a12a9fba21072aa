import random
from dataclasses import replace

import pytest
import torch

from alps.data.batches import FromStep, MicroBatches, Schedule, pack, pad
from alps.data.encoding.dataset import EncodedDataset
from alps.data.encoding.encode import EncodedExample
from alps.models.loss import IGNORE

PAD = 99
SCHEDULE = Schedule(
    num_examples=23, batch_size=8, epochs=2, max_steps=None, seed=0, micro_batch_size=3
)

GOLDEN = [
    [16, 22, 17, 19, 14, 8, 20, 5],
    [3, 10, 21, 6, 2, 4, 1],
    [15, 13, 0, 4, 14, 3, 18, 2],
]  # of seed 3, from `torch.randperm`


def rows(count: int = 23) -> EncodedDataset:
    """Rows of mixed lengths; the first id names the row."""
    draw = random.Random(0)
    lengths = [(draw.randint(3, 9), draw.randint(1, 3)) for _ in range(count)]
    return EncodedDataset.of(
        [EncodedExample([i, *[50] * n], s) for i, (n, s) in enumerate(lengths)]
    )


def batches(schedule: Schedule, rank: int = 0, batching="grouped") -> MicroBatches:
    return MicroBatches(rows(schedule.num_examples), schedule, rank, PAD, batching)


def members(batch) -> list[int]:
    """Rows in a micro-batch; the one that fills an empty batch is none."""
    if not batch["num_tokens"]:
        return []
    if "lengths" not in batch:
        return batch["input_ids"][:, 0].tolist()
    return [part[0].item() for part in batch["input_ids"][0].split(batch["lengths"])]


def step_members(dataset: MicroBatches, step: int) -> list[int]:
    n = dataset.schedule.num_micro
    return [i for k in range(step * n, (step + 1) * n) for i in members(dataset[k])]


def test_steps_are_counted_with_the_short_last_batch():
    assert SCHEDULE.steps_per_epoch == 3
    assert SCHEDULE.num_steps == 6
    assert replace(SCHEDULE, num_examples=24).num_steps == 6
    assert replace(SCHEDULE, num_examples=5).num_steps == 2


@pytest.mark.parametrize(("max_steps", "expected"), [(4, 4), (6, 6), (100, 6), (1, 1)])
def test_max_steps_is_an_upper_limit(max_steps, expected):
    assert replace(SCHEDULE, max_steps=max_steps).num_steps == expected


@pytest.mark.parametrize("epoch", [0, 1])
def test_each_epoch_covers_every_row_once(epoch):
    steps = [SCHEDULE.examples(3 * epoch + i) for i in range(3)]
    assert [len(s) for s in steps] == [8, 8, 7]
    assert sorted(i for s in steps for i in s) == list(range(23))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [SCHEDULE.examples(0), SCHEDULE.examples(3), replace(SCHEDULE, seed=1).examples(0)]
    assert len({tuple(order) for order in orders}) == 3


def test_the_order_depends_on_nothing_but_seed_and_step():
    torch.manual_seed(1)
    first = SCHEDULE.examples(4)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    others = replace(SCHEDULE, world_size=4, micro_batch_size=1, epochs=9, max_steps=5)
    assert others.examples(4) == first
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_order_is_what_it_always_was():
    """A checkpoint of an older version goes on with the rows it would have seen."""
    schedule = replace(SCHEDULE, seed=3)
    assert [schedule.examples(step) for step in (0, 2, 3)] == GOLDEN


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    drawn = []
    draw = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *a, **k: drawn.append(1) or draw(*a, **k))
    dataset = batches(replace(SCHEDULE, seed=12345))
    assert all(dataset[k] for k in range(len(dataset)))
    assert len(drawn) == dataset.schedule.epochs


def test_asking_in_another_order_gives_the_same_batches():
    forward, backward = batches(SCHEDULE), batches(SCHEDULE)
    found = {k: backward[k] for k in reversed(range(len(backward)))}
    for k in range(len(forward)):
        for name, value in forward[k].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(found[k][name]))


@pytest.mark.parametrize("world_size", [2, 3, 8, 11])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 50])
def test_the_ranks_of_a_step_see_what_one_rank_would(world_size, micro_batch_size):
    schedule = replace(SCHEDULE, world_size=world_size, micro_batch_size=micro_batch_size)
    ranks = [batches(schedule, rank) for rank in range(world_size)]
    for step in range(schedule.num_steps):
        seen = [i for dataset in ranks for i in step_members(dataset, step)]
        assert sorted(seen) == sorted(SCHEDULE.examples(step))


@pytest.mark.parametrize("world_size", [1, 2, 3, 11])
def test_all_ranks_have_equally_many_micro_batches(world_size):
    schedule = replace(SCHEDULE, world_size=world_size)
    ranks = [batches(schedule, rank) for rank in range(world_size)]
    assert {len(dataset) for dataset in ranks} == {schedule.num_steps * schedule.num_micro}
    sizes = [[len(members(dataset[k])) for k in range(len(dataset))] for dataset in ranks]
    assert max(max(s) for s in sizes) <= schedule.micro_batch_size


def test_a_share_that_is_too_short_ends_in_batches_without_a_label():
    schedule = replace(SCHEDULE, world_size=8, micro_batch_size=1)  # the last step has 7 rows
    last = [batches(schedule, rank)[2] for rank in range(8)]
    assert [len(members(batch)) for batch in last] == [1] * 7 + [0]
    assert (last[7]["labels"] == IGNORE).all()
    assert last[7]["input_ids"].tolist() == [[PAD, PAD]]
    assert last[7]["step_answer_tokens"] == last[0]["step_answer_tokens"]


def test_a_data_set_smaller_than_the_batch_needs_no_empty_batches():
    schedule = replace(SCHEDULE, num_examples=4, batch_size=128, micro_batch_size=2)
    assert schedule.num_micro == 2
    assert all(members(batches(schedule)[k]) for k in range(4))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_step_answer_tokens_counts_the_labels_of_all_ranks(world_size):
    schedule = replace(SCHEDULE, world_size=world_size)
    ranks = [batches(schedule, rank) for rank in range(world_size)]
    n = schedule.num_micro
    for step in range(schedule.num_steps):
        found = [dataset[k] for dataset in ranks for k in range(step * n, (step + 1) * n)]
        labels = sum(int((batch["labels"] != IGNORE).sum()) for batch in found)
        assert {batch["step_answer_tokens"] for batch in found} == {labels}


def test_micro_batches_hold_rows_of_similar_length():
    dataset = batches(SCHEDULE)
    widths = [dataset[k]["input_ids"].shape[1] for k in range(SCHEDULE.num_micro)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


def test_labels_mask_the_prompt_and_the_padding():
    batch = pad([EncodedExample([1, 2, 3, 4, 5], 3), EncodedExample([6, 7], 1)], PAD)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, PAD, PAD, PAD]]
    assert batch["num_tokens"] == 7
    no = IGNORE
    assert batch["labels"].tolist() == [[no, no, no, 4, 5], [no, 7, no, no, no]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.int64


def test_an_answer_token_equal_to_the_padding_is_learned():
    batch = pad(
        [EncodedExample([1, PAD], 1), EncodedExample([1, 2, 3], 1)], PAD
    )  # pad is often eos
    assert batch["labels"][0].tolist() == [IGNORE, PAD, IGNORE]
    assert batch["num_tokens"] == 5


def test_a_packed_row_has_no_padding_and_positions_of_each_sample():
    batch = pack([EncodedExample([1, 2, 3, 4, 5], 3), EncodedExample([6, 7], 1)], PAD)
    no = IGNORE
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert batch["labels"].tolist() == [[no, no, no, 4, 5, no, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert (batch["lengths"], batch["num_tokens"]) == ([5, 2], 7)


def test_no_rows_packed_are_two_tokens_without_a_label():
    batch = pack([], PAD)
    assert (batch["lengths"], batch["num_tokens"]) == ([2], 0)
    assert batch["labels"].tolist() == [[IGNORE, IGNORE]]


def test_batching_changes_how_a_step_stands_in_memory_and_nothing_else():
    ways = [batches(SCHEDULE, batching=way) for way in ("packed", "grouped", "padded")]
    for step in range(SCHEDULE.num_steps):
        packed, grouped, padded = (step_members(way, step) for way in ways)
        assert packed == grouped
        assert padded == SCHEDULE.examples(step)
        assert sorted(padded) == sorted(packed)
    tokens = [{way[k]["step_answer_tokens"] for k in range(3)} for way in ways]
    assert tokens[0] == tokens[1] == tokens[2]


def test_the_sampler_begins_where_training_stopped():
    begin = 0
    sampler = FromStep(6, lambda: begin)
    assert list(sampler) == [0, 1, 2, 3, 4, 5]
    begin = 4
    assert list(sampler) == [4, 5]
    assert len(sampler) == 6
