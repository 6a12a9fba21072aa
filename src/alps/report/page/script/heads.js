// Head sets and their scores, two side by side, and their difference.

function outlines(heads) {
  const path = heads.chosen.map((place) => {
    const layer = Math.floor(place / heads.heads), head = place % heads.heads;
    return `M${head - 0.48},${layer - 0.48}H${head + 0.48}V${layer + 0.48}H${head - 0.48}Z`;
  }).join("");
  return { type: "path", path, line: { color: css("--mark"), width: 2 } };
}

/** For each head, its rank among all scores: 1 is the highest; equal scores share their mean rank. */
function ranks(scores) {
  const places = new Map();
  scores.flat().filter((score) => score != null).sort((a, b) => b - a)
    .forEach((score, place) => places.set(score, [places.get(score)?.[0] ?? place, place]));
  const rank = (score) => 1 + (places.get(score)[0] + places.get(score)[1]) / 2;
  return scores.map((row) => row.map((score) => (score == null ? null : rank(score))));
}

const MODES = { score: "scores", rank: "ranks", chosen: "chosen heads" };

const table = (heads) => (heads.scores == null ? null : content.heat[heads.scores]);
const chosenTable = (heads) => Array.from({ length: heads.layers }, (_, layer) => Array.from({ length: heads.heads }, (_, head) => +heads.chosen.includes(layer * heads.heads + head)));

function values(heads, mode) {
  const scores = table(heads);
  return scores && mode !== "chosen" ? (mode === "rank" ? ranks(scores) : scores) : chosenTable(heads);
}

function place(heads, layer, head) {
  const group = Math.floor(head / (heads.heads / heads.groups));
  return `layer ${layer}, head ${head} (KV group ${group})`;
}

function heatMap(node, heads, z, text, changes) {
  const trace = { type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", xgap: 1, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0, tickformat: changes.whole ? "d" : ".2~g" }, ...changes.trace };
  const height = Math.min(640, Math.max(190, 100 + (heads.layers > 40 ? 10 : 20) * heads.layers));
  plot(node, [trace], { height, margin: { l: 40, r: 8, t: 30, b: 36 }, shapes: changes.shapes,
    xaxis: { title: "head", dtick: heads.heads > 16 ? 4 : 1, showgrid: false, zeroline: false, constrain: "domain" }, yaxis: { title: "layer", autorange: "reversed", dtick: heads.layers > 16 ? 4 : 1, showgrid: false, zeroline: false } });
}

function oneMap(run, mode) {
  const heads = run.heads, z = values(heads, mode), scores = table(heads);
  const picked = new Set(heads.chosen);
  const text = z.map((row, layer) => row.map((_, head) => `${place(heads, layer, head)}<br>${scores ? `${safe(heads.metric)} score ${scores[layer][head]}` : "no scores"}<br>${picked.has(layer * heads.heads + head) ? "chosen" : "not chosen"}`));
  const node = el("div"), flat = !scores || mode === "chosen";
  const trace = flat ? { colorscale: [[0, css("--chip")], [1, css("--good")]], showscale: false, zmin: 0, zmax: 1 } : { colorscale: "Viridis", reversescale: mode === "rank" };
  return [el("div", {}, el("h3", {}, run.label), note(`${heads.chosen.length} of ${heads.layers * heads.heads} heads${scores ? `, by ${heads.metric}` : ", without scores"}`), node),
    () => heatMap(node, heads, z, text, { shapes: [outlines(heads)], trace, whole: mode === "rank" })];
}

function differenceMap(a, b, mode) {
  const first = values(a.heads, mode), second = values(b.heads, mode);
  const z = first.map((row, layer) => row.map((value, head) => (value == null || second[layer][head] == null ? null : value - second[layer][head])));
  const inA = new Set(a.heads.chosen), inB = new Set(b.heads.chosen);
  const text = z.map((row, layer) => row.map((value, head) => {
    const k = layer * row.length + head;
    const where = inA.has(k) ? (inB.has(k) ? "chosen in both" : "chosen in A alone") : inB.has(k) ? "chosen in B alone" : "chosen in neither";
    return `${place(a.heads, layer, head)}<br>A ${first[layer][head]}, B ${second[layer][head]}<br>A − B ${digits(value)}<br>${where}`;
  }));
  const most = Math.max(...z.flat().map(Math.abs)) || 1;
  const node = el("div");
  const names = { score: "scores", rank: "ranks", chosen: "chosen (1) or not (0)" };
  return [el("div", {}, el("h3", {}, "A − B"), note(`difference of ${names[mode]}`), node), () => heatMap(node, a.heads, z, text, { whole: mode === "rank", trace: { colorscale: "RdBu", zmid: 0, zmin: -most, zmax: most } })];
}

/** In the address: B is no run. */
const NO_RUN = "none";

section("heads", ["q", "facets", "brush", "sel", "a", "b", "mode"], (body, controls) => {
  const able = runs.filter((run) => run.heads);
  const shown = runsToShow((run) => run.heads);
  const scores = matching.filter((run) => run.heads?.scores != null);
  if (!chosenRuns().some((run) => run.heads) && scores.length > 1) shown.unshift(...scores.slice(0, 2));
  const pick = (key) => (byKey.get(key)?.heads ? byKey.get(key) : null);
  const a = pick(state.a) || shown[0] || able[0];
  const b = state.b === NO_RUN ? null : pick(state.b) || shown.find((run) => run !== a);
  for (const node of body.querySelectorAll(".plot")) Plotly.purge(node);
  if (!a) {
    controls.replaceChildren();
    return nothing(body, "No run here has a head set: `alps train method=alps` or `alps localize` choose heads.");
  }
  const same = b && a.heads.layers === b.heads.layers && a.heads.heads === b.heads.heads;
  const scored = a.heads.scores != null && (!b || b.heads.scores != null);
  const modes = Object.entries(MODES).filter(([mode]) => scored || mode !== "rank");
  const usual = !scored ? "chosen" : b && a.heads.metric !== b.heads.metric ? "rank" : "score";
  const mode = modes.some(([own]) => own === state.mode) ? state.mode : usual;
  const options = able.map((run) => [run.key, run.label]);
  controls.replaceChildren(choice("A", options, a.key, (key) => update({ a: key })),
    choice("B", [[NO_RUN, DASH], ...options], b?.key || NO_RUN, (key) => update({ b: key })), choice("show", modes, mode, (value) => update({ mode: value })),
    note("red outlines: chosen heads"));
  const maps = [oneMap(a, mode)];
  if (b) maps.push(oneMap(b, mode));
  const comparable = b && same && (scored || mode === "chosen") && (mode !== "score" || a.heads.metric === b.heads.metric);
  if (comparable) maps.push(differenceMap(a, b, mode));
  body.replaceChildren(el("div", { class: "trio" }, ...maps.map(([node]) => node)));
  if (b && !comparable) controls.append(note(same ? "no difference: one has other scores or none; show ranks or chosen heads" : "no difference: the models have other shapes"));
  for (const [, draw] of maps) draw();
});
