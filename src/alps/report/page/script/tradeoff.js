// Scores against what they cost, with the Pareto front of the runs that match.

const COST_AXES = { trainable_fraction: ["trainable share in %", 100], train_seconds: ["training seconds", 1],
  peak_memory_bytes: ["peak memory in MiB", 1 / 2 ** 20], flops_vs_full: ["FLOPs of a step over full fine-tuning", 1] };
const MOST_BARS = 60;

/** Points that no other point beats in cost and score, by cost. */
function paretoFront(points, lower) {
  const sign = lower ? -1 : 1, front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || sign * (b.y - a.y))) {
    if (!front.length || sign * point.y > sign * front.at(-1).y) front.push(point);
  }
  return front;
}

section("tradeoff", ["q", "facets", "brush", "sel", "x", "score"], (body, controls) => {
  const [title, scale] = COST_AXES[state.x] || COST_AXES.trainable_fraction;
  const i = scoreIndex(state.score), score = content.scores[i];
  controls.replaceChildren(
    choice("score", scoreNames, score?.name, (name) => update({ score: name })),
    choice("against", Object.entries(COST_AXES).map(([id, [text]]) => [id, text]), state.x, (x) => update({ x })));
  const points = matching.filter((run) => run.scores?.[i] != null && run.costs?.[state.x] != null)
    .map((run) => ({ run, x: scale * run.costs[state.x], y: run.scores[i], interval: run.intervals[i] }));
  if (!points.length) return nothing(body, "No run here has this score and this cost: `alps evaluate run=KEY` measures scores.");
  const mixed = ["data", "model"].filter((name) => new Set(points.map((p) => p.run[name])).size > 1);
  controls.append(note(`${score.lower ? "lower" : "higher"} is better; click a point to select its run${mixed.length ? `; the runs differ in ${mixed.join(" and ")}: filter for a front of one` : ""}`));
  const colours = methodColours();
  const bars = points.length <= MOST_BARS;
  const traces = methodNames.filter((method) => points.some((p) => p.run.method === method)).map((method) => {
    const own = points.filter((p) => p.run.method === method);
    return {
      type: "scatter", mode: "markers", name: safe(content.styles[method]?.label || method), x: own.map((p) => p.x), y: own.map((p) => p.y),
      customdata: own.map((p) => p.run.key),
      error_y: bars && own.some((p) => p.interval) ? { type: "data", symmetric: false, thickness: 1, width: 2, array: own.map((p) => (p.interval ? p.interval[1] - p.y : 0)), arrayminus: own.map((p) => (p.interval ? p.y - p.interval[0] : 0)) } : undefined,
      marker: { size: own.map((p) => (state.sel.includes(p.run.key) ? 14 : 9)), color: colours.get(method), opacity: 0.9,
        line: { color: own.map((p) => (state.sel.includes(p.run.key) ? css("--text") : css("--panel"))), width: own.map((p) => (state.sel.includes(p.run.key) ? 2.5 : 1)) } },
      text: own.map((p) => `${safe(p.run.label)}<br>${safe(score.name)} ${p.y}${p.interval ? ` [${p.interval[0]}, ${p.interval[1]}]` : ""}<br>${title} ${digits(p.x)}`),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const front = paretoFront(points, score.lower);
  traces.unshift({ type: "scatter", mode: "lines", name: "Pareto front", x: front.map((p) => p.x), y: front.map((p) => p.y),
    line: { shape: "hv", color: css("--quiet"), width: 1.5, dash: "dot" }, hoverinfo: "skip" });
  plot(body, traces, { xaxis: { title }, yaxis: { title: safe(cut(score.name)) }, hovermode: "closest" }, (point) => point.customdata && toggleRun(byKey.get(point.customdata)));
});
