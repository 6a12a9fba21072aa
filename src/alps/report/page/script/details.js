// One run in full, and what the selected runs differ in.

function facts(rows) {
  return el("table", { class: "facts" }, el("tbody", {}, ...rows.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, plain(value))))));
}

function card(title, rows, hint) {
  return el("div", {}, el("h3", {}, title), rows.length ? el("div", { class: "tall", tabindex: "0" }, facts(rows)) : empty(hint));
}

const settingsOf = (from, run) => Object.keys(from).map((name) => [name, valueOf(from, name, run)]).filter(([, value]) => value !== undefined);

function scoreRows(run) {
  return (run.scores || []).map((value, i) => [content.scores[i].name, value, run.intervals[i]]).filter(([, value]) => value != null)
    .map(([name, value, interval]) => [name, interval ? `${digits(value)} [${digits(interval[0])}, ${digits(interval[1])}]` : digits(value)]);
}

function sampleCard([number, prompt, answer, target, verdict, reason]) {
  const kind = verdict === 1 ? "right" : verdict === 0 ? "wrong" : "";
  const parts = [["Prompt", content.texts[prompt]], ["Answer", content.texts[answer]], ["Reference", content.texts[target]]];
  return el("article", { class: `sample ${kind}` }, el("span", { class: "verdict" }, kind || (verdict == null ? "" : digits(verdict))), el("h3", {}, `Document ${number}`),
    reason ? el("p", {}, `failed: ${reason}`) : null, ...parts.filter(([, text]) => text).flatMap(([name, text]) => [el("small", {}, name), el("pre", { tabindex: "0" }, text)]));
}

const FIRST_SAMPLES = 6;
const VERDICTS = { right: 1, wrong: 0 };

/** The first cards, and a button for the others. */
function cards(nodes) {
  const box = el("div", { class: "cards" }, ...nodes.slice(0, FIRST_SAMPLES));
  const rest = nodes.slice(FIRST_SAMPLES);
  const more = el("button", { type: "button", click: () => { box.append(...rest); more.remove(); } }, `Show ${rest.length} more`);
  return el("div", {}, box, rest.length ? el("div", { class: "bar below" }, more) : null);
}

function drawSamples(run) {
  const names = Object.keys(run.samples);
  if (!names.length) return [el("h3", {}, "Samples"), empty("This run has no samples here: `alps evaluate run=KEY` writes them.")];
  const name = names.includes(state.bench) ? state.bench : names[0];
  const { total, each } = run.samples[name];
  const wanted = VERDICTS[state.verdict];
  const shown = each.filter((sample) => wanted === undefined || sample[4] === wanted);
  return [el("div", { class: "bar" }, el("h3", {}, "Samples"), choice("of", names, name, (bench) => update({ bench })),
    choice("verdict", [["", "all"], ...Object.keys(VERDICTS)], state.verdict, (verdict) => update({ verdict })),
    note(each.length < total ? `first ${each.length} of ${total} documents; the others are in the run's folder` : `${total} documents`)),
  shown.length ? cards(shown.map(sampleCard)) : empty("None of the samples here has this verdict.")];
}

section("details", ["run", "sel", "bench", "verdict"], (body, controls) => {
  const run = byKey.get(state.run) || chosenRuns()[0] || runs.find((each) => each.scores) || runs[0];
  controls.replaceChildren();
  if (!run) return nothing(body, "No runs here yet: `alps train method=alps` makes one.");
  controls.append(choice("", runs.map((each) => [each.key, each.label]), run.key, (key) => update({ run: key })), el("code", {}, run.key), el("span", { class: `state ${run.state}` }, run.state));
  const trouble = [run.reason, ...run.notes, ...(run.deviations || []).map((text) => `deviation: ${text}`)].filter(Boolean);
  const costs = Object.entries(run.costs || {}).map(([name, value]) => [COSTS[name][0], COSTS[name][1](value)]);
  const versions = [...Object.entries(run.facts || {}), ...settingsOf(content.versions, run)];
  body.replaceChildren(el("ul", { class: "warnings" }, ...trouble.map((text) => el("li", {}, text))),
    el("div", { class: "cards" }, card("Result", [...scoreRows(run), ...costs], "No result yet."), card("Settings", settingsOf(content.settings, run), "Its settings are not known here."), card("Versions and data", versions, "Not recorded yet.")), ...drawSamples(run));
});

const MOST_COMPARED = 8;

section("compare", ["sel"], (body, controls) => {
  const shown = chosenRuns().slice(0, MOST_COMPARED);
  controls.replaceChildren();
  if (shown.length < 2) return nothing(body, "Select two runs in the table to see what they differ in.");
  if (chosenRuns().length > shown.length) controls.append(note(`first ${shown.length} of ${chosenRuns().length}`));
  const sources = [...Object.keys(content.settings).map((name) => [name, (run) => valueOf(content.settings, name, run)]),
    ...["precision", "devices", "strategy", "micro_batch_size", "num_examples", "git_commit", "git_dirty", "data_hash", "base_hash"].map((name) => [name, (run) => run.facts?.[name]]),
    ...Object.keys(content.versions).map((name) => [`version of ${name}`, (run) => valueOf(content.versions, name, run)]), ["deviations", (run) => run.deviations?.join("; ")]];
  const rows = sources.map(([name, get]) => [name, shown.map((run) => plain(get(run)))]).filter(([, texts]) => new Set(texts).size > 1);
  if (!rows.length) return nothing(body, "These runs differ in no setting, version or data.");
  body.replaceChildren(el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, ""), ...shown.map((run) => el("th", { scope: "col" }, run.label)))),
    el("tbody", {}, ...rows.map(([name, texts]) => el("tr", {}, el("th", { scope: "row" }, name), ...texts.map((text) => el("td", {}, text))))))));
});
