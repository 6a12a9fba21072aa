"""Where the folder `conf` is; imports nothing, for `alps COMMAND --help`."""

from pathlib import Path


def conf_dir() -> Path:
    """`alps/conf` in an installed wheel, else `conf` beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"
