// Parallel coordinates over the settings that differ and the scores.

/** Viridis without its darkest colors. */
const ON_DARK = [[0, "#7a6bd6"], [0.5, "#2fb39a"], [1, "#fde725"]];
const MOST_SETTINGS = 6, MOST_SCORES = 4;

/** A dimension: numbers as they are, everything else as categories. */
function dimension(label, shown, get, scale = 1) {
  const values = shown.map(get);
  if (new Set(values.map(plain)).size < 2) return null;
  if (values.every((value) => typeof value === "number")) return { label: safe(cut(label, 22)), values: values.map((value) => scale * value) };
  const names = [...new Set(values.map(plain))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return { label: safe(cut(label, 22)), values: values.map((value) => names.indexOf(plain(value))), tickvals: names.map((_, i) => i), ticktext: names.map((name) => cut(name, 18)) };
}

section("parallel", ["q", "facets", "score"], (body, controls) => {
  const i = scoreIndex(state.score), score = content.scores[i];
  const shown = matching.filter((run) => run.scores?.[i] != null && run.costs?.trainable_fraction != null);
  controls.replaceChildren(choice("color", scoreNames, score?.name, (name) => update({ score: name })));
  if (shown.length < 2) return nothing(body, "Two runs with this score are needed: `alps train -m method=alps,random` makes them.");
  const left = matching.length - shown.length;
  controls.append(note(`drag along an axis to highlight runs${left ? `; not drawn, as they lack the score or were not trained: ${left}` : ""}`));
  const settings = [...varied, ...columns.filter((column) => column.setting).map((column) => column.id)];
  const dimensions = settings.map((name) => dimension(name.split(".").slice(-2).join("."), shown, columnOf.get(name).get)).filter(Boolean).slice(0, MOST_SETTINGS);
  dimensions.push(dimension("trainable %", shown, (run) => run.costs.trainable_fraction, 100), dimension("train s", shown, (run) => run.costs.train_seconds));
  const complete = content.scores.map((s, k) => [s, k]).filter(([s, k]) => k !== i && s.headline && shown.every((run) => run.scores?.[k] != null)).slice(0, MOST_SCORES - 1);
  for (const [s, k] of [...complete, [score, i]]) dimensions.push(dimension(s.name, shown, (run) => run.scores[k]));
  const values = shown.map((run) => run.scores[i]);
  const trace = { type: "parcoords", dimensions: dimensions.filter(Boolean), line: { color: values, colorscale: document.documentElement.dataset.theme === "dark" ? ON_DARK : "Viridis", reversescale: score.lower, showscale: true, colorbar: { thickness: 10, outlinewidth: 0 } },
    labelfont: { color: css("--text"), size: 12 }, tickfont: { color: css("--text"), size: 11 }, rangefont: { color: css("--quiet"), size: 10 }, unselected: { line: { opacity: 0.08 } } };
  const box = body.querySelector(".scroll") || el("div", { class: "scroll" });
  if (!box.parentNode) body.replaceChildren(box);
  const node = plot(box, [trace], { margin: { l: 70, r: 40, t: 50, b: 24 }, width: Math.max(body.clientWidth - 4, 105 * trace.dimensions.length + 60) }, null, { displayModeBar: false });
  node.style.width = "max-content";
});
