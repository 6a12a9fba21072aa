"""What tests of compositions share."""

import pytest
import yaml


@pytest.fixture
def fast_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra reads 25 files for a composition: with libyaml, whose results are the same."""
    monkeypatch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
