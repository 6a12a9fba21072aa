// Jaccard index of the head sets of runs.

const MOST_SETS = 24;

section("overlap", ["q", "facets", "brush", "sel", "sort"], (body, controls) => {
  const own = chosenRuns().filter((run) => run.heads);
  const able = own.length > 1 ? own : matching.filter((run) => run.heads);
  const shown = able.slice(0, MOST_SETS);
  controls.replaceChildren(note(able.length > shown.length ? `first ${shown.length} of ${able.length} head sets` : own.length > 1 ? "selected runs" : "runs that match"));
  if (shown.length < 2) return nothing(body, "Two runs with head sets are needed: `alps train -m method=alps,random` makes them.");
  const sets = shown.map((run) => new Set(run.heads.chosen));
  const labels = shown.map((run, i) => safe(`${i + 1}  ${cut(run.label, 30)}`));
  const text = shown.map(() => []);
  const z = sets.map((a, i) => sets.map((b, j) => {
    const [one, other] = [shown[i].heads, shown[j].heads], total = one.layers * one.heads;
    const names = `${safe(shown[i].label)}<br>${safe(shown[j].label)}`;
    if (one.layers !== other.layers || one.heads !== other.heads) {
      text[i].push(`${names}<br>other model shape`);
      return null;
    }
    const shared = [...a].filter((head) => b.has(head)).length;
    const jaccard = shared / (a.size + b.size - shared);
    text[i].push(`${names}<br>Jaccard ${digits(jaccard)}<br>${shared} shared of ${a.size} and ${b.size}; ${digits((a.size * b.size) / total, 3)} expected by chance`);
    return jaccard;
  }));
  const short = shown.map((_, i) => String(i + 1));
  plot(body, [{ type: "heatmap", z, x: short, y: labels, text, hovertemplate: "%{text}<extra></extra>", zmin: 0, zmax: 1, colorscale: "Viridis", xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0, title: { text: "Jaccard", side: "right" } } }],
    { yaxis: { autorange: "reversed", type: "category", dtick: 1, showgrid: false }, xaxis: { type: "category", dtick: 1, showgrid: false }, height: Math.max(300, 90 + 22 * shown.length), margin: { l: 20, r: 8, t: 30, b: 30 } });
});
