// Paired differences with 95 % intervals: to a method with seeds pooled, or to one run.

const MOST_ROWS = 40;

function pooledRows(benchmark, method) {
  const shown = new Set(matching);
  return content.pooled.filter((row) => row.benchmark === benchmark && row.to === method && row.runs.some((i) => shown.has(runs[i])))
    .map((row) => {
      const run = runs[row.runs[0]];
      const label = row.seeds > 1 ? run.label.replace(/, seed [^,]+/, "") : run.label;
      return { ...row, label: row.seeds > 1 ? `${label}, ${row.seeds} seeds` : label, key: run.key };
    });
}

/** Differences of runs that answered the same documents as one run. */
function pairedRows(benchmark, index, reference) {
  const pool = (content.pairs.pools[benchmark] || []).find(({ runs: members }) => members.includes(reference.index));
  if (!pool) return [];
  const own = pool.runs.indexOf(reference.index);
  const known = matching.filter((run) => run !== reference && pool.runs.includes(run.index) && run.scores[index] != null);
  return known.filter(() => reference.scores[index] != null).map((run) => {
    const other = pool.runs.indexOf(run.index);
    const half = pool.half[Math.max(own, other)][Math.min(own, other)];
    const value = run.scores[index] - reference.scores[index];
    return { value, low: value - half, high: value + half, seeds: 1, label: run.label, key: run.key };
  });
}

section("differences", ["q", "facets", "brush", "sel", "to", "score"], (body, controls) => {
  const benchmark = content.scores[scoreIndex(state.score)]?.name.split("/")[0];
  const index = content.scores.findIndex((score) => score.name.startsWith(`${benchmark}/`) && score.headline);
  if (!headlines.length) {
    controls.replaceChildren();
    return nothing(body, "No run here has scores: `alps evaluate run=KEY` measures them.");
  }
  const kinds = Object.entries(content.references).filter(([method]) => content.pooled.some((row) => row.benchmark === benchmark && row.to === method));
  const members = new Set((content.pairs.pools[benchmark] || []).flatMap((pool) => pool.runs));
  const single = [...chosenRuns(), ...runs.filter((run) => !state.sel.includes(run.key))].filter((run) => members.has(run.index));
  const options = [...kinds.map(([method, text]) => [method, `${text}, seeds pooled`]), ...single.map((run) => [run.key, run.label])];
  const to = options.some(([value]) => value === state.to) ? state.to : options[0]?.[0];
  controls.replaceChildren(choice("score", headlines.map((score) => score.name), content.scores[index].name, (name) => update({ score: name })), choice("minus that of", options, to, (value) => update({ to: value })));
  let rows = content.references[to] && !byKey.has(to) ? pooledRows(benchmark, to) : byKey.has(to) ? pairedRows(benchmark, index, byKey.get(to)) : [];
  const chosen = rows.filter((row) => state.sel.includes(row.key));
  if (chosen.length && byKey.has(to)) rows = chosen;
  if (!rows.length) return nothing(body, "No two runs here answered the same documents, or their samples are gone: `alps evaluate run=KEY` writes them.");
  const lower = content.scores[index].lower;
  rows.sort((a, b) => (lower ? 1 : -1) * (a.value - b.value));
  const all = rows.length;
  rows = rows.slice(0, MOST_ROWS);
  controls.append(note([all > rows.length ? `best ${rows.length} of ${all}` : "", "bars: 95 % interval, paired by document; not corrected for their number", lower ? "lower is better" : ""].filter(Boolean).join("; ")));
  const tint = (row) => (row.low > 0 || row.high < 0 ? (row.value > 0 !== lower ? css("--good") : css("--bad")) : css("--quiet"));
  const labels = rows.map((row, i) => `${safe(cut(row.label, 36))}${"\u200b".repeat(i)}`); // equal names stay rows of their own
  const traces = [...new Set(rows.map(tint))].map((color) => {
    const own = rows.map((row, i) => [row, labels[i]]).filter(([row]) => tint(row) === color), of = (get) => own.map(([row]) => get(row));
    return { type: "scatter", mode: "markers", showlegend: false, x: of((row) => row.value), y: own.map(([, label]) => label), marker: { color, size: 9 }, customdata: of((row) => row.key),
      error_x: { type: "data", symmetric: false, array: of((row) => row.high - row.value), arrayminus: of((row) => row.value - row.low), color, thickness: 1.6, width: 4 },
      text: of((row) => `${safe(row.label)}<br>${digits(row.value)} [${digits(row.low)}, ${digits(row.high)}]${row.p == null ? "" : `<br>p ${row.p}`}<br>${row.seeds} ${row.seeds > 1 ? "seeds" : "seed"}`), hovertemplate: "%{text}<extra></extra>" };
  });
  plot(body, traces, { xaxis: { title: narrow() ? "difference" : `difference in ${safe(content.scores[index].name)}`, zeroline: true, zerolinecolor: css("--text") }, yaxis: { type: "category", autorange: "reversed", categoryorder: "array", categoryarray: labels }, height: Math.max(220, 80 + 24 * rows.length), hovermode: "closest" },
    (point) => point.customdata && toggleRun(byKey.get(point.customdata)));
});
