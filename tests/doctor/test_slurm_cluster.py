"""Output of SLURM's commands, as versions 22.05 and 24.05 print it."""

import pytest

from alps.doctor.slurm_cluster import Cluster, parse_config, parse_gpus, parse_partitions

SINFO_22 = """debug*|up|30:00|2|2|3900|(null)
gpu|up|7-00:00:00|12|64|515000|gpu:a100:4
gpu|up|7-00:00:00|3|128|1031000|gpu:a100:8
big|drain|infinite|4|64+|1000000+|(null)
"""
SINFO_24 = """main*|up|1-00:00:00|16|96|772000|gpu:nvidia_h100_80gb_hbm3:4(S:0-1),mps:400
cpu|up|infinite|0|0|0|(null)
shared|up|4:00:00|2|48|256000|gpu:2(S:0)
mig|up|4:00:00|2|48|256000|gpu:a100_1g.10gb:7(S:0),gpu:a100_3g.40gb:2(S:1)
"""


def test_sinfo_of_22_05():
    debug, small, large, big = parse_partitions(SINFO_22)
    assert (debug.name, debug.default, debug.limit, debug.gpus) == ("debug", True, 30, {})
    assert (small.gpus, small.cpus, small.memory, small.nodes) == ({"a100": 4}, 64, 515000, 12)
    assert (large.num_gpus, large.limit, large.up) == (8, 7 * 24 * 60, True)
    assert (big.up, big.limit, big.cpus, big.memory) == (False, None, 64, 1000000)


def test_sinfo_of_24_05():
    main, cpu, shared, mig = parse_partitions(SINFO_24)
    assert main.gpus == {"nvidia_h100_80gb_hbm3": 4} and main.limit == 1440
    assert (cpu.nodes, cpu.limit) == (0, None)
    assert shared.gpus == {"": 2}
    assert mig.num_gpus == 9


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", {}),
        ("gpu", {"": 1}),
        ("gpu:v100", {"v100": 1}),
        ("craynetwork:4,gpu:2", {"": 2}),
        ("gpu:a100:2(S:0),gpu:a100:2(S:1)", {"a100": 4}),
        ("gpu:tesla:4(IDX:0-3)", {"tesla": 4}),
    ],
)
def test_gres(gres, gpus):
    assert parse_gpus(gres) == gpus


def test_other_lines_are_left_out():
    assert parse_partitions("sinfo: warning\n\na|b\n") == []


def test_config():
    text = (
        "Configuration data as of 2024-01-01\nJobRequeue              = 1\nMaxArraySize = 1001 \n"
    )
    text += "SLURM_VERSION           = 22.05.8\nSlurmctldHost[0]        = head\n"
    config = parse_config(text)
    assert config == {"JobRequeue": "1", "MaxArraySize": "1001", "SLURM_VERSION": "22.05.8"}


def test_the_nodes_of_a_partition():
    cluster = Cluster(partitions=parse_partitions(SINFO_22))
    assert [p.name for p in cluster.nodes_of(None)] == ["debug"]
    assert [p.cpus for p in cluster.nodes_of("gpu")] == [64, 128]
    assert cluster.nodes_of("gpus") == []
