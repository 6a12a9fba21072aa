"""The sandbox of this machine, or why there is none; as root and as another user."""

import pytest

from alps.evals.sandbox import availability
from alps.evals.sandbox.availability import (
    available_backend,
    isolation_failures,
    open_sandbox,
    unavailable_reason,
)
from alps.evals.sandbox.backend import UNPROTECTED, Backend
from alps.evals.sandbox.process import CallBatch, Request

pytestmark = pytest.mark.sandbox


def test_it_holds_and_no_protection_would_not(box):
    assert isolation_failures(box.backend) == ""
    found = isolation_failures(UNPROTECTED)
    for what in ("reads files", "writes files", "opens connections", "lists /proc"):
        assert what in found


@pytest.fixture
def no_cache():
    """Clears the caches before and after."""
    for function in (available_backend, unavailable_reason):
        function.cache_clear()
    yield
    for function in (available_backend, unavailable_reason):
        function.cache_clear()


def test_a_backend_that_does_not_start_is_named(monkeypatch, no_cache):
    broken = Backend("bubblewrap", "/bin/false")
    batches = [CallBatch(name="p", inputs=[()], call_timeouts=[4.0], timeout=5.0)]
    wanted = Request(code="def f(): return 1", entry_point="f", batches=batches)
    assert isolation_failures(broken).startswith("does not start")
    monkeypatch.setattr(availability, "installed_backend", lambda: broken)
    assert available_backend() is None
    with pytest.raises(
        ValueError, match=r"does not hold here \(does not start.*namespaces.*unsafe"
    ):
        open_sandbox().__enter__()
    with open_sandbox(allow_unsafe=True) as box, box.start(wanted, 1 << 16) as running:
        assert box.backend == UNPROTECTED and next(running.lines()) == b"v1"


def test_a_backend_that_leaks_is_none(monkeypatch, no_cache):
    monkeypatch.setattr(
        availability, "installed_backend", lambda: Backend("bubblewrap", "/usr/bin/bwrap")
    )
    monkeypatch.setattr(availability, "isolation_failures", lambda _: "reads files")
    assert (
        available_backend() is None and "does not hold here (reads files)" in unavailable_reason()
    )


def test_without_bubblewrap_the_sentence_says_what_to_install(tmp_path, monkeypatch, no_cache):
    """Other tools that make namespaces don't matter: a verdict must not depend on them."""
    other = tmp_path / "unshare"
    other.symlink_to("/usr/bin/unshare")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"bubblewrap is not installed.*`apt install bubblewrap`"):
        open_sandbox().__enter__()
