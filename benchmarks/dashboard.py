"""How large the page of `alps dashboard` is with many runs, and how fast in headless chromium.

    python benchmarks/dashboard.py
    python benchmarks/dashboard.py --runs 100 --rounds 3

The runs are synthetic, in the file formats of real ones. `usable`: from the navigation to the drawn
table; `charts`: until the charts in the window are drawn, too. `filter`: from a key in the filter
to the end of the next frame; median and worst over a word typed letter by letter.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "processes"))

from browser import browser
from synthetic_runs import write_runs

TYPE = """new Promise(done => {
  const query = document.getElementById("query"), times = [], words = [...WORDS];
  const next = () => {
    if (!words.length) return done(times);
    query.value = words.shift();
    const start = performance.now();
    query.dispatchEvent(new Event("input"));
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        times.push(performance.now() - start);
        setTimeout(next, PAUSE);
      };
      channel.port2.postMessage(0);
    });
  };
  next();
})"""
WORDS = ["a", "al", "alp", "alps", "alps ", "alps seed<=3", "", "ratio<=0.3", "state=failed", ""]
PAUSE = 120
"""Milliseconds between keys, as of a quick typist."""


def measure(page: Path) -> tuple[float, float, list[float]]:
    """Seconds until the page is usable and until charts are drawn; seconds of each filter."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        browser(Path(folder)) as tab,
    ):
        tab.open(page.as_uri(), 1600, 1000)
        tab.wait_for("performance.getEntriesByName('charts').length")
        mark = "performance.getEntriesByName('{}')[0].startTime / 1000"
        usable, charts = (tab.evaluate(mark.format(name)) for name in ("usable", "charts"))
        times = tab.evaluate(TYPE.replace("WORDS", str(WORDS)).replace("PAUSE", str(PAUSE)))
        assert not tab.errors(), tab.errors()
    return usable, charts, [t / 1000 for t in times]


def main() -> None:
    """Writes the runs and the page, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder that keeps runs and page")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outputs = asked.keep or Path(folder)
        if not (outputs / "runs").exists():
            write_runs(outputs, asked.runs, asked.points)
        start = time.perf_counter()
        command = [sys.executable, "-m", "alps.cli", "dashboard", f"output_dir={outputs}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        wrote = time.perf_counter() - start
        page = Path(done.stdout.strip())
        size = page.stat().st_size
        found = [measure(page) for _ in range(asked.rounds)]
    usable, charts = (statistics.median(f[i] for f in found) for i in (0, 1))
    filters = [t for _, _, times in found for t in times]
    print("| runs | MB | written, s | usable, s | charts, s | filter, ms | worst, ms |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {asked.runs} | {size / 1e6:.1f} | {wrote:.1f} | {usable:.2f} | {charts:.2f} | "
        f"{1000 * statistics.median(filters):.0f} | {1000 * max(filters):.0f} |"
    )


if __name__ == "__main__":
    main()
