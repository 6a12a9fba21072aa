"""Python, alps and the packages it needs, against the ranges of pyproject.toml."""

from __future__ import annotations

import os
import platform
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import alps
from alps.base.provenance import git_state
from alps.config.build import model_choice
from alps.doctor.context import Context
from alps.doctor.finding import Finding, check
from alps.settings.model import Model

DEFAULT_MODEL = "smollm2_135m_q4"

SHOWN = ("torch", "transformers", "pytorch-lightning", "lm-eval")
"""Packages with a line of their own even if nothing is wrong."""


@check
def python(context: Context) -> Iterator[Finding]:
    """Version of Python."""
    wanted, own = declared()[0], platform.python_version()
    if wanted.contains(own, prereleases=True):
        yield Finding(name="Python", state="ok", text=own)
        return
    remedy = "make a virtual environment with another Python"
    yield Finding(
        name="Python", state="missing", text=f"{own}, but alps needs {wanted}", remedy=remedy
    )


@check
def alps_version(context: Context) -> Iterator[Finding]:
    """Version and commit of alps."""
    commit, dirty = git_state()
    where = f"commit {commit[:10]}{' with changes' * bool(dirty)}, " if commit else ""
    where += str(Path(alps.__file__).parent)
    try:
        text, state, remedy = f"{version('alps')} ({where})", "ok", ""
    except PackageNotFoundError:
        text = f"not installed, only imported ({where}): results cannot say its version"
        state, remedy = "warning", "pip install -e ."
    if state == "ok" and dirty:
        state, text = "warning", f"{text}: no commit reproduces results of code with changes"
        remedy = "commit them"
    yield Finding(name="alps", state=state, text=text, remedy=remedy)


@check
def required_packages(context: Context) -> Iterator[Finding]:
    """Versions of the packages that alps needs."""
    fine = 0
    for requirement in declared()[1]:
        name, wanted = requirement.name, requirement.specifier
        try:
            own = version(name)
        except PackageNotFoundError:
            text, remedy = (
                "not installed: alps does not run without it",
                f"pip install '{name}{wanted}'",
            )
            yield Finding(name=name, state="missing", text=text, remedy=remedy)
            continue
        if not wanted.contains(own, prereleases=True):
            text = f"{own} is outside of {wanted}, with which alps does not work or was not tested"
            remedy = f"pip install '{name}{wanted}'"
            yield Finding(name=name, state="missing", text=text, remedy=remedy)
        elif name in SHOWN:
            yield Finding(name=name, state="ok", text=f"{own} ({wanted})")
        else:
            fine += 1
    yield Finding(name="other packages", state="ok", text=f"{fine} are as pyproject.toml asks")


def declared() -> tuple[SpecifierSet, list[Requirement]]:
    """Range of Python and required packages.

    Those of the checkout if there is one: it may be newer than what `pip install` has seen.
    """
    path = Path(alps.__file__).parents[2] / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text())["project"]
        python, texts = project["requires-python"], project["dependencies"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        python = metadata("alps")["Requires-Python"]
        texts = [text for text in requires("alps") or () if "extra ==" not in text]
    requirements = [Requirement(text) for text in texts]
    return SpecifierSet(python), [r for r in requirements if not r.marker or r.marker.evaluate()]


@check
def embedded_model(context: Context) -> Iterator[Finding]:
    """The package with the weights of the default model."""
    model = default_model()
    try:
        text = f"{model.package_file().name}, for model={model.name}"
    except ValueError as error:
        state = "missing" if context.is_default else "info"
        yield Finding(name="embedded model", state=state, text=str(error))
    else:
        yield Finding(name="embedded model", state="ok", text=text)


def default_model() -> Model:
    """The model of a run that names none; a package carries it."""
    model = model_choice(DEFAULT_MODEL)
    assert model is not None
    return model


@check
def wandb(context: Context) -> Iterator[Finding]:
    """W&B, for `logger=wandb`."""
    asked = any("wandb" in run.logger.names for run in context.unfinished)
    if find_spec("wandb") is None:
        text, remedy = "not installed: logger=wandb is refused", "pip install 'alps[wandb]'"
        state = "missing" if asked else "info"
        yield Finding(name="wandb", state=state, text=text, remedy=remedy)
    elif os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        text = f"{version('wandb')}, WANDB_MODE={os.environ['WANDB_MODE']}: nothing is sent"
        yield Finding(name="wandb", state="warning" if asked else "info", text=text)
    elif has_wandb_key():
        yield Finding(name="wandb", state="ok", text=f"{version('wandb')}, with a key")
    else:
        text = f"{version('wandb')}, no key: runs with logger=wandb are recorded offline"
        state = "warning" if asked else "info"
        yield Finding(name="wandb", state=state, text=text, remedy="wandb login, or WANDB_API_KEY")


def has_wandb_key() -> bool:
    """Whether the environment or a netrc file has a key for W&B's host."""
    from netrc import NetrcParseError, netrc
    from urllib.parse import urlparse

    if os.environ.get("WANDB_API_KEY"):
        return True
    from wandb import Settings

    settings = Settings()
    settings.update_from_env_vars(dict(os.environ))
    host = urlparse(settings.base_url).hostname
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for file in (Path(f).expanduser() for f in files if f):
        try:
            if host and netrc(file).authenticators(host):
                return True
        except (OSError, NetrcParseError):
            continue
    return False


@check
def local_loggers(context: Context) -> Iterator[Finding]:
    """TensorBoard and trackio, for `logger=`."""
    for name in ("tensorboard", "trackio"):
        asked = any(name in run.logger.names for run in context.unfinished)
        yield _optional(name, asked, f"logger={name}", f"pip install 'alps[{name}]'")


@check
def bitsandbytes(context: Context) -> Iterator[Finding]:
    """bitsandbytes, for weights in 4 bits."""
    asked = any(run.optim.frozen_dtype == "nf4" for run in context.unfinished)
    yield _optional("bitsandbytes", asked, "optim.frozen_dtype=nf4", "pip install 'alps[4bit]'")


@check
def vllm(context: Context) -> Iterator[Finding]:
    """vLLM, for faster evaluation."""
    asked = any(run.evals.backend == "vllm" for run in context.unfinished)
    yield _optional("vllm", asked, "evals.backend=vllm", "pip install vllm; or evals.backend=hf")


def _optional(package: str, asked: bool, setting: str, remedy: str) -> Finding:
    if find_spec(package):
        return Finding(name=package, state="ok", text=f"{version(package)}, for {setting}")
    text = f"not installed: {setting} is refused"
    return Finding(name=package, state="missing" if asked else "info", text=text, remedy=remedy)
