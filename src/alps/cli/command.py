"""Commands for click whose arguments are Hydra's `name=value` settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from inspect import getdoc
from typing import TYPE_CHECKING, NoReturn

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from alps.cli.setting_docs import Setting

Sections = Mapping[str, "Sequence[Setting]"]
"""Title -> settings, as `--help` lists them."""


MAX_DEFAULT = 40
"""Letters of a default; a longer one is a table."""


class SettingsCommand(click.Command):
    """A command that receives its arguments as they are typed.

    Its description is the docstring of its function; settings are read for `--help` and completion
    only.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], None],
        sections: Callable[[], Sections],
        examples: Iterable[str],
        metavar: str = "[NAME=VALUE]...",
    ):
        """Wraps a function.

        Args:
            function: Takes the arguments.
            sections: Returns the settings.
            examples: Command lines, each perhaps with a comment.
            metavar: The arguments in the usage line.
        """
        self.sections, self.examples = sections, tuple(examples)
        argument = click.Argument(
            ["arguments"], nargs=-1, type=click.UNPROCESSED, metavar=metavar,
            shell_complete=self._complete,
        )  # fmt: skip
        super().__init__(
            name=function.__name__,
            callback=lambda arguments: function(list(arguments)),
            params=[argument],
            help=getdoc(function),
            context_settings={
                "ignore_unknown_options": True,
                "help_option_names": ["--help"],
                "max_content_width": 100,
            },
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Lets `-h` ask for help; as an option of click it would be found inside `-method`."""
        return super().parse_args(ctx, ["--help" if a == "-h" else a for a in args])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes settings and examples below the options."""
        for title, settings in self.sections().items():
            with formatter.section(title):
                formatter.write_dl([_line(setting) for setting in settings], col_max=32)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def _complete(self, ctx: click.Context, _: object, incomplete: str) -> list[CompletionItem]:
        """Completes names of settings, and their values behind `=`.

        A single matching name comes with its values: the shell would put a space behind `name=`.
        """
        settings = [s for each in self.sections().values() for s in each]
        before = ctx.params.get("arguments", ())
        if not incomplete and any(s.name == before[-1] for s in settings if before):
            before = (*before, "=")  # bash splits words at `=`, and click drops the last one
        if len(before) > 1 and before[-1] == "=":
            name, start, prefix = before[-2], incomplete, ""
        else:
            name, equals, start = incomplete.partition("=")
            matching = [s for s in settings if s.name.startswith(name)]
            if not equals and len(matching) > 1:
                return [CompletionItem(f"{s.name}=", help=s.text) for s in matching]
            name = name if equals else "".join(s.name for s in matching)
            prefix = f"{name}="
        values = [v for s in settings if s.name == name for v in s.choices or [s.default]]
        return [CompletionItem(prefix + v) for v in values if v.startswith(start)]


class CommandGroup(click.Group):
    """A group of commands, imported when they are needed."""

    def __init__(
        self, name: str, commands: Mapping[str, str], unknown: Callable[[str], str], help: str
    ):
        """Imports nothing yet.

        Args:
            name: Of the group.
            commands: Name -> `module:attribute`.
            unknown: Sentence about a command that does not exist.
            help: Description.
        """
        context = {
            "ignore_unknown_options": True,
            "help_option_names": ["-h", "--help"],
            "max_content_width": 100,
        }
        super().__init__(name=name, help=help, no_args_is_help=False, context_settings=context)
        self.places, self.unknown = commands, unknown

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in their order."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command."""
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name].partition(":")
        return getattr(import_module(module), attribute)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command of the first argument."""
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:  # as it is during completion
            self._fail(args[0])
        return args[0], command, args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Requires a command."""
        if not args and not ctx.resilient_parsing:
            self._fail("")
        return super().parse_args(ctx, args)

    def _fail(self, name: str) -> NoReturn:
        raise click.UsageError(self.unknown(name))


def _line(setting: Setting) -> tuple[str, str]:
    choices = f"[{' | '.join(setting.choices)}]" if setting.choices else ""
    default = setting.default if len(setting.default) <= MAX_DEFAULT else "{...}"
    return f"{setting.name}={default}", f"{setting.text}  {choices}".strip()
