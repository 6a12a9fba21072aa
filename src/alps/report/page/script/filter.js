// Which runs match the words, comparisons and chips of the filter.

const equal = (a, b) => String(a) === b || Number(a) === Number(b || NaN);
const OPERATORS = {
  "=": equal, "!=": (a, b) => !equal(a, b),
  "<": (a, b) => Number(a) < Number(b), "<=": (a, b) => Number(a) <= Number(b),
  ">": (a, b) => Number(a) > Number(b), ">=": (a, b) => Number(a) >= Number(b),
};
/** Runs that words and chips select, and those of them that the ranges of the parallel coordinates select, too. */
let unbrushed = runs, matching = runs;

/** A test for each word of a query: `name=value`, `name<value`, or text that a run contains. */
function parseQuery(text) {
  const words = text.match(/(?:"[^"]*"|[^\s"])+|"/g) || [];
  return words.map((word) => {
    const parts = /^([\w./-]+)(<=|>=|!=|=|<|>)(.*)$/.exec(word.replaceAll('"', ""));
    const column = parts && (columnOf.get(parts[1]) || columns.find((c) => c.label === parts[1]));
    if (column || (parts && content.settings[parts[1]])) {
      const get = column?.get || ((run) => valueOf(content.settings, parts[1], run));
      if (!parts[3]) return () => true; // its value is still being typed
      const fits = OPERATORS[parts[2]];
      return (run) => { const value = get(run); return value == null ? parts[2] === "!=" : fits(value, parts[3]); };
    }
    const wanted = word.replaceAll('"', "").toLowerCase();
    return (run) => run.search.includes(wanted);
  });
}

function applyFilter() {
  const tests = parseQuery(state.q);
  const facets = Object.entries(state.facets);
  unbrushed = runs.filter((run) =>
    facets.every(([name, values]) => values.includes(plain(run[name]))) && tests.every((test) => test(run)));
  matching = unbrushed.filter(brushTest());
  const [id, direction] = state.sort.split(":");
  const column = id === "label" ? { get: (run) => run.label } : columnOf.get(id);
  if (column) {
    const sign = direction === "down" ? -1 : 1;
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
    matching = matching.map((run) => [column.get(run), run]).sort(([a], [b]) =>
      a == null || b == null ? (a == null) - (b == null) : sign * compare(a, b)).map(([, run]) => run);
  }
}

const MOST_CHIPS = 10;

function drawFacets() {
  const sets = FACETS.filter((name) => distinct((run) => run[name]).length > 1).map((name) => [name, [...new Set(runs.map((run) => plain(run[name])))]]);
  $("facets").replaceChildren(...sets.filter(([, values]) => values.length <= MOST_CHIPS).map(([name, values]) =>
    el("fieldset", {}, el("legend", {}, name), ...values.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((value) => {
      const pressed = (state.facets[name] || []).includes(value);
      return el("button", { type: "button", class: "chip", "aria-pressed": String(pressed), "data-facet": name, click: () => toggleFacet(name, value) }, value);
    }))));
}

function toggleFacet(name, value) {
  const before = state.facets[name] || [];
  const values = before.includes(value) ? before.filter((v) => v !== value) : [...before, value];
  const facets = { ...state.facets, [name]: values };
  if (!values.length) delete facets[name];
  update({ facets });
  const chip = [...$("facets").querySelectorAll(`[data-facet="${name}"]`)].find((c) => c.textContent === value);
  chip?.focus();
}
