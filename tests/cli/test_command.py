"""Help, completion and the way arguments reach a command."""

import subprocess
import sys

import click
import pytest
from click.shell_completion import BashComplete, ZshComplete
from click.testing import CliRunner

from alps.cli.__main__ import COMMANDS, alps
from alps.cli.command import SettingsCommand
from alps.cli.setting_docs import Setting

WITH_HELP = (*COMMANDS, "heads show", "heads compare")


def help_of(command: str) -> str:
    result = CliRunner().invoke(alps, [*command.split(), "--help"], prog_name="alps")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", WITH_HELP)
def test_help_has_settings_and_three_examples(command):
    text = help_of(command)
    assert text.startswith(f"Usage: alps {command} ")
    examples = text.partition("Examples:\n")[2].split("\n\n")[0].splitlines()
    assert len(examples) == 3 and all(f"alps {command} " in f"{line} " for line in examples)
    assert "\nSettings:\n" in text or command == "heads"


def test_every_setting_has_a_description():
    for name in WITH_HELP:
        command = alps
        for part in name.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(alps), part)
        if isinstance(command, SettingsCommand):
            settings = [s for each in command.sections().values() for s in each]
            assert settings and not [s.name for s in settings if not s.text]
            assert len({s.name for s in settings}) == len(settings)


def test_help_shows_defaults_of_the_yaml_and_choices_of_the_annotations():
    text = " ".join(help_of("train").split())
    for part in (
        "optim.lr=0.0001 Peak learning rate.",
        "trainer.strategy=auto ", "[auto | ddp | fsdp]",
        "method=alps choice of heads and of what trains [alps | bottom | ",
        "model.shape={...}",
    ):  # fmt: skip
        assert part in text
    assert "base=... " in help_of("localize")
    assert "[cosine | euclidean | kl | pad]" in " ".join(help_of("localize").split())
    assert "gpu=a100_80g " in help_of("plan") and "from=null " in help_of("report")


def test_short_help_is_not_cut():
    assert "..." not in help_of("").partition("Commands:")[2]


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom alps.cli.__main__ import alps\n"
        f"for name in {['', *WITH_HELP]}:\n"
        "    assert alps.main([*name.split(), '--help'], 'alps', standalone_mode=False) == 0\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'hydra', 'pandas', 'matplotlib'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "a=1", "--cfg", "job", "b=-2", "--config-dir=x"],
        ["-method=full"],
        ["++a.b=[1, 2]", "~c", "d='-m'", ""],
    ],
)
def test_arguments_arrive_as_they_were_typed(arguments):
    received = []
    command = SettingsCommand(lambda given: received.extend(given), dict, ())
    command.main(arguments, "alps", standalone_mode=False)
    assert received == arguments


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_both_flags_ask_for_help(flag):
    result = CliRunner().invoke(alps, ["runs", "a=1", flag])
    assert result.exit_code == 0 and "Usage: " in result.output


@pytest.mark.parametrize("arguments", [[], ["help"], ["-h"], ["--help"]])
def test_no_command_prints_the_commands(cli, arguments):
    shown = cli(*arguments, check=0).stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_version(cli):
    from importlib.metadata import version

    assert cli("--version", check=0).stdout == f"{version('alps')}\n"


def completions(words: list[str], incomplete: str, shell: type = ZshComplete) -> list[str]:
    items = shell(alps, {}, "alps", "_ALPS_COMPLETE").get_completions(words, incomplete)
    return [item.value for item in items]


def test_commands_complete():
    assert completions([], "e") == ["evaluate", "embed", "export"]
    assert completions(["heads"], "") == ["show", "compare"]


def test_names_of_settings_complete():
    assert completions(["train"], "trainer.d") == ["trainer.devices=auto"]
    assert completions(["train"], "trainer.a") == [
        "trainer.accelerator=", "trainer.activation_checkpointing=",
    ]  # fmt: skip
    assert completions(["plan", "scale=mini"], "form") == ["format=text", "format=json"]
    assert completions(["train"], "nothing") == []


def test_values_of_settings_complete():
    assert completions(["train", "-m"], "scale=m") == ["scale=mini"]
    assert completions(["localize"], "metric=") == [
        "metric=cosine", "metric=euclidean", "metric=kl", "metric=pad",
    ]  # fmt: skip
    # bash splits words at "="
    assert completions(["train", "seed", "=", "1", "scale", "="], "m", BashComplete) == ["mini"]
    assert completions(["train", "scale"], "=", BashComplete) == ["mini", "paper"]


def test_a_setting_without_choices_completes_to_its_default():
    command = SettingsCommand(print, lambda: {"": [Setting("top", "10")]}, ())
    items = command._complete(click.Context(command), None, "t")
    assert [item.value for item in items] == ["top=10"]
