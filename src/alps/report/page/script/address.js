// What the reader chose, kept in the hash of the address, so that a link shows the same view.

const headlines = content.scores.filter((score) => score.headline);
const usualScore = (headlines.find((score) => !score.lower) || headlines[0])?.name || "";
const DEFAULTS = { q: "", brush: "", sort: "", axis: "step", x: "trainable_fraction", score: usualScore, mode: "", a: "", b: "", to: "", run: "", bench: "", verdict: "" };
const LISTS = ["sel", "cols"];
/** Values that the page itself gives; others of an address are left out. */
const ALLOWED = {
  axis: (value) => Object.hasOwn(AXES, value), x: (value) => Object.hasOwn(COST_AXES, value), score: (value) => scoreNames.includes(value),
  mode: (value) => Object.hasOwn(MODES, value), verdict: (value) => Object.hasOwn(VERDICTS, value),
};
const FACETS = ["method", "ratio", "scope", "model", "data", "optim", "seed", "state"];
const state = {};
const watchers = [];

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const given = found.get(name);
    state[name] = given == null || ALLOWED[name]?.(given) === false ? value : given;
  }
  for (const name of LISTS) state[name] = [...new Set((found.get(name) || "").split(","))].filter(Boolean);
  state.sel = state.sel.filter((key) => byKey.has(key));
  state.facets = {};
  for (const name of FACETS) {
    const values = found.getAll(`in.${name}`);
    if (values.length) state.facets[name] = values;
  }
}

function writeAddress() {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) if (state[name] !== value) made.set(name, state[name]);
  for (const name of LISTS) if (state[name].length) made.set(name, state[name].join(","));
  for (const [name, values] of Object.entries(state.facets)) for (const value of values) made.append(`in.${name}`, value);
  try {
    history.replaceState(null, "", `#${made}`);
  } catch {
    // browsers may limit how often an address changes; the next change writes the whole state
  }
}

/** Changes the state; parts of the page that watch are told the names that changed. */
function update(changes) {
  Object.assign(state, changes);
  writeAddress();
  for (const watch of watchers) watch(Object.keys(changes));
}

function toggleRun(run) {
  const others = state.sel.filter((key) => key !== run.key);
  update({ sel: others.length < state.sel.length ? others : [...state.sel, run.key] });
}

const chosenRuns = () => state.sel.map((key) => byKey.get(key));
