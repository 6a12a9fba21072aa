// The runs and their columns, as `content.py` wrote them.

const content = JSON.parse($("content").textContent);
// Names of runs and words of the reader index these: none may find `constructor`.
for (const named of [content.settings, content.versions, content.styles, content.references, content.pairs.pools]) Object.setPrototypeOf(named, null);
const runs = content.runs;
const byKey = new Map(runs.map((run) => [run.key, run]));
const IDENTITY = ["method", "ratio", "scope", "model", "data", "optim", "seed"];

/** Value of a setting or version of a run; undefined where it has none. */
function valueOf(columns, name, run) {
  const column = columns[name];
  const place = column.each.length > 1 || runs.length === 1 ? column.each[run.index] : column.each[0];
  return place === -1 || place === undefined ? undefined : column.values[place];
}

function distinct(get) {
  return [...new Set(runs.map(get).filter((value) => value != null))];
}

runs.forEach((run, index) => { run.index = index; });
const varied = IDENTITY.filter((name) => distinct((run) => run[name]).length > 1);

/** Method as reports label it, with its ratio. */
function methodLabel(run) {
  const label = run.name || content.styles[run.method]?.label || run.method;
  return run.ratio == null ? label : `${label} ${+(100 * run.ratio).toPrecision(6)}%`;
}

const taken = new Map();
for (const run of runs) {
  const extra = varied.filter((name) => name !== "method" && name !== "ratio" && run[name] != null);
  const parts = extra.map((name) => (name === "seed" ? `seed ${run.seed}` : run[name]));
  run.label = [methodLabel(run), ...parts].join(", ");
  taken.set(run.label, (taken.get(run.label) || 0) + 1);
}
const NOT_SCIENCE = /^(logger|trainer|evals|output_dir|seed$|(method|model|data|optim)\.(name|ratio|scope)$)/;
const ownSettings = Object.keys(content.settings).filter((name) => content.settings[name].values.length > 1 && !NOT_SCIENCE.test(name));
for (const [label, count] of taken) {
  if (count === 1) continue;
  const alike = runs.filter((run) => run.label === label);
  const differing = ownSettings.filter((name) => new Set(alike.map((run) => plain(valueOf(content.settings, name, run)))).size > 1);
  for (const run of alike) {
    const texts = differing.slice(0, 2).map((name) => `${name.split(".").at(-1)}=${plain(valueOf(content.settings, name, run))}`);
    run.label = [label, ...texts].join(", ");
  }
  const still = new Set(alike.map((run) => run.label)).size < count;
  if (still) for (const run of alike) run.label += ` · ${run.key.slice(-6)}`;
}

const COSTS = {
  num_trainable: ["trainable", digits], trainable_fraction: ["trainable %", percent],
  qkv_fraction: ["Attn%", percent], num_heads_selected: ["heads", plain],
  score_mass: ["score mass", fixed], flops_vs_full: ["FLOPs vs full", fixed],
  train_seconds: ["train s", seconds], tokens_per_second: ["tokens/s", seconds],
  peak_memory_bytes: ["peak MiB", mebibytes], predicted_memory_bytes: ["predicted MiB", mebibytes],
  num_steps: ["steps", plain], final_train_loss: ["train loss", fixed],
};
const SHOWN_COSTS = ["trainable_fraction", "train_seconds", "peak_memory_bytes", "final_train_loss"];

/** Columns of the table: id, label, value of a run, its text, and whether shown at first. */
const columns = [];
for (const name of IDENTITY.slice(2)) {
  columns.push({ id: name, label: name, get: (run) => run[name], text: plain, shown: varied.includes(name) });
}
content.scores.forEach((score, i) => {
  const label = score.headline ? score.name.split("/")[0] : score.name.replace("/", " ");
  columns.push({ id: score.name, label, title: score.name, get: (run) => run.scores?.[i], text: fixed, shown: score.headline, number: true });
});
for (const [name, [label, text]] of Object.entries(COSTS)) {
  columns.push({ id: name, label, get: (run) => run.costs?.[name], text, shown: SHOWN_COSTS.includes(name), number: true });
}
columns.push({ id: "state", label: "state", get: (run) => run.state, text: plain, shown: true });
columns.push({ id: "key", label: "key", get: (run) => run.key, text: plain, shown: false });
columns.push({ id: "method", label: "method", get: (run) => run.method, text: plain, shown: false });
columns.push({ id: "ratio", label: "ratio", get: (run) => run.ratio, text: plain, shown: false, number: true });
for (const name of ownSettings) {
  columns.push({ id: name, label: name, get: (run) => valueOf(content.settings, name, run), text: plain, shown: false, setting: true });
}
for (const column of columns) {
  if (column.shown && column.id !== "state") column.shown = runs.some((run) => column.get(run) != null);
}
const columnOf = new Map(columns.map((column) => [column.id, column]));
const scoreNames = content.scores.map((score) => score.name);
const scoreIndex = (name) => Math.max(0, scoreNames.indexOf(name));

for (const run of runs) {
  run.search = [run.label, run.key, run.state, run.reason, ...IDENTITY.map((name) => plain(run[name]))].join(" ").toLowerCase();
}
