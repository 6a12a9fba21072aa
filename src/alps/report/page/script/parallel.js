// Parallel coordinates over the settings that differ and the scores; ranges on them filter the runs.

/** Viridis without its darkest colors, and without its lightest. */
const ON_DARK = [[0, "#7a6bd6"], [0.5, "#2fb39a"], [1, "#fde725"]];
const ON_LIGHT = [[0, "#440154"], [0.5, "#1f7f8a"], [1, "#c99700"]];
const MOST_SETTINGS = 6, MOST_SCORES = 4;
const PERCENT = "trainable_fraction";

/** Column -> its ranges [low, high] and names, as the address has them. */
function brushes() {
  try {
    const found = Object.entries(JSON.parse(state.brush || "{}"));
    const isRange = (each) => typeof each === "string" || (each.length === 2 && each.every(Number.isFinite));
    return new Map(found.filter(([id, ranges]) => columnOf.has(id) && ranges.length && ranges.every(isRange)));
  } catch {
    return new Map(); // an address that no page wrote
  }
}

/** Whether a run lies in the ranges of all axes. */
function brushTest() {
  const wanted = [...brushes()].map(([id, ranges]) => [columnOf.get(id).get, ranges]);
  return (run) => wanted.every(([get, ranges]) => {
    const value = get(run);
    return ranges.some((range) => (typeof range === "string" ? range === plain(value) : value != null && value >= range[0] && value <= range[1]));
  });
}

/** A dimension: numbers as they are, everything else as categories. */
function dimension(id, shown, label = id) {
  const { get } = columnOf.get(id), values = shown.map(get), ranges = brushes().get(id);
  if (new Set(values.map(plain)).size < 2) return null;
  const axis = { name: id, label: safe(cut(label, 22)), multiselect: true };
  if (values.every((value) => typeof value === "number")) {
    const scale = id === PERCENT ? 100 : 1, own = ranges?.filter((range) => typeof range !== "string");
    return { ...axis, tickformat: ".4~g", values: values.map((value) => scale * value), constraintrange: own?.length ? own.map((range) => range.map((end) => scale * end)) : undefined };
  }
  const names = [...new Set(values.map(plain))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const places = ranges?.map((range) => names.indexOf(range)).filter((place) => place >= 0);
  return { ...axis, values: values.map((value) => names.indexOf(plain(value))), tickvals: names.map((_, i) => i), ticktext: names.map((name) => cut(name, 18)), names,
    constraintrange: places?.length ? places.map((place) => [place - 0.3, place + 0.3]) : undefined };
}

/** The ranges that the reader drew, for the address. */
function drawnBrush(dimensions) {
  const found = {};
  for (const { name, names, constraintrange: drawn } of dimensions) {
    if (!drawn?.length) continue;
    const ranges = Array.isArray(drawn[0]) ? drawn : [drawn], scale = name === PERCENT ? 100 : 1;
    found[name] = names ? names.filter((_, i) => ranges.some(([low, high]) => low <= i && i <= high)) : ranges.map((range) => range.map((end) => end / scale));
  }
  return Object.keys(found).length ? JSON.stringify(found) : "";
}

section("parallel", ["q", "facets", "score"], (body, controls) => {
  const i = scoreIndex(state.score), score = content.scores[i];
  const shown = unbrushed.filter((run) => run.scores?.[i] != null && run.costs?.trainable_fraction != null);
  controls.replaceChildren(choice("color", scoreNames, score?.name, (name) => update({ score: name })));
  if (shown.length < 2) return nothing(body, "Two runs with this score are needed: `alps train -m method=alps,random` makes them.");
  const left = unbrushed.length - shown.length;
  controls.append(note(`drag along an axis to filter runs, click it to undo${left ? `; not drawn, as they lack the score or were not trained: ${left}` : ""}`));
  const settings = [...varied, ...columns.filter((column) => column.setting).map((column) => column.id)];
  const seen = new Set(); // a setting that follows another one tells nothing more: data.task that of data
  const isNew = ({ values: own }) => { const parts = own.map((value) => own.indexOf(value)).join(); return !seen.has(parts) && seen.add(parts); };
  const dimensions = settings.map((name) => dimension(name, shown, name.split(".").slice(-2).join("."))).filter(Boolean).filter(isNew).slice(0, MOST_SETTINGS);
  dimensions.push(dimension(PERCENT, shown, "trainable %"), dimension("train_seconds", shown, "train s"));
  const complete = content.scores.filter((s, k) => k !== i && s.headline && shown.every((run) => run.scores?.[k] != null)).slice(0, MOST_SCORES - 1);
  for (const { name } of [...complete, score]) dimensions.push(dimension(name, shown));
  const values = shown.map((run) => run.scores[i]), size = layout().font.size;
  const trace = { type: "parcoords", dimensions: dimensions.filter(Boolean), line: { color: values, colorscale: document.documentElement.dataset.theme === "dark" ? ON_DARK : ON_LIGHT, reversescale: score.lower, showscale: true, colorbar: { thickness: 10, outlinewidth: 0 } },
    labelfont: { color: css("--text"), size }, tickfont: { color: css("--text"), size: size - 1 }, rangefont: { color: css("--quiet"), size: size - 2 }, unselected: { line: { opacity: 0.08 } } };
  const box = body.querySelector(".scroll") || el("div", { class: "scroll" });
  if (!box.parentNode) body.replaceChildren(box);
  const longest = Math.max(0, ...(trace.dimensions[0]?.ticktext || []).map((text) => text.length));
  const node = plot(box, [trace], { margin: { l: Math.max(70, 20 + 0.6 * size * longest), r: 40, t: 50, b: 24 }, width: Math.max(body.clientWidth - 4, 9 * size * trace.dimensions.length + 60) }, null, { displayModeBar: false });
  node.style.width = "max-content";
  node.removeAllListeners("plotly_restyle");
  node.on("plotly_restyle", () => update({ brush: drawnBrush(node.data[0].dimensions) }));
});
