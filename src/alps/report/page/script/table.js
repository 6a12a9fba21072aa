// The table of runs: sortable, with a checkbox for each run, drawn in steps, so that typing stays quick.

const STEP = 40;
let rowsShown = STEP;

const shownColumns = () => columns.filter((column) => column.shown !== state.cols.includes(column.id));

function drawTable() {
  const shown = shownColumns();
  const failed = matching.some((run) => run.reason);
  const head = el("tr", {}, heading({ id: "label", label: "run" }), ...shown.map(heading), failed ? el("th", {}, "reason") : null);
  const body = el("tbody");
  for (const run of matching.slice(0, rowsShown)) body.append(row(run, shown, failed));
  $("table").replaceChildren(
    matching.length ? el("table", {}, el("thead", {}, head), body)
      : empty(runs.length ? "No run matches this filter: reset it." : "No runs here yet: `alps train method=alps` makes one."));
  $("count").textContent = `${matching.length} of ${runs.length} runs${state.brush ? ", in ranges of settings and scores" : ""}`;
  offerMore();
  markChosen();
}

function offerMore() {
  const more = matching.length - rowsShown;
  $("more").hidden = more <= 0;
  $("more").textContent = `Show ${Math.min(STEP, more)} more of ${matching.length}`;
}

/** Appends rows; the table also does so when it is scrolled to its end. */
function showMore() {
  const shown = shownColumns(), failed = matching.some((run) => run.reason);
  const next = matching.slice(rowsShown, rowsShown + STEP);
  $("table").querySelector("tbody")?.append(...next.map((run) => row(run, shown, failed)));
  rowsShown += STEP;
  offerMore();
  markChosen();
}

function heading(column) {
  const [id, direction] = state.sort.split(":");
  const sorted = id === column.id ? direction : "";
  const arrow = { up: " ↑", down: " ↓" }[sorted] || "";
  const next = sorted === "up" ? "down" : "up";
  return el("th", { scope: "col", class: column.number ? "number" : "", title: column.title, "aria-sort": { up: "ascending", down: "descending" }[sorted] || "none" },
    el("button", { type: "button", "data-column": column.id, click: () => { update({ sort: `${column.id}:${next}` }); document.querySelector(`[data-column="${CSS.escape(column.id)}"]`)?.focus(); } }, column.label + arrow));
}

function row(run, shown, failed) {
  const box = el("input", { type: "checkbox", "aria-label": `Select ${run.label}`, change: () => toggleRun(run), keydown: moveRow });
  const name = el("button", { type: "button", class: "name", title: run.key, click: () => openRun(run) }, run.label);
  const cells = shown.map((column) => {
    const value = column.get(run);
    if (column.id === "state") return el("td", {}, el("span", { class: `state ${run.state}` }, run.state));
    const number = column.number || typeof value === "number";
    return el("td", { class: number ? "number" : "", title: number && value != null ? value : null }, column.text(value));
  });
  const reason = failed ? el("td", { class: "reason", title: run.reason }, run.reason) : null;
  return el("tr", { "data-key": run.key }, el("th", { scope: "row" }, box, el("span", { class: "swatch" }), name), ...cells, reason);
}

function moveRow(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    const boxes = [...$("table").querySelectorAll("input")];
    boxes[boxes.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  } else if (event.key === "Enter") openRun(byKey.get(event.target.closest("tr").dataset.key));
}

/** Shows which runs are selected, without drawing the table again. */
function markChosen() {
  for (const line of $("table").querySelectorAll("tbody tr")) {
    const place = state.sel.indexOf(line.dataset.key);
    line.classList.toggle("chosen", place >= 0);
    line.querySelector("input").checked = place >= 0;
    line.querySelector(".swatch").style.setProperty("--swatch", place >= 0 ? colour(place) : "transparent");
  }
  const count = state.sel.length;
  $("chosen").textContent = count ? `${count} selected` : "Select runs to compare them below";
  $("unchoose").hidden = !count;
}

function drawColumnMenu() {
  $("columns").lastElementChild.replaceChildren(...columns.map((column) => el("label", {},
    el("input", { type: "checkbox", checked: column.shown !== state.cols.includes(column.id), change: () => {
      const others = state.cols.filter((id) => id !== column.id);
      update({ cols: others.length < state.cols.length ? others : [...others, column.id] });
    } }), " ", column.title || column.label)));
}

function openRun(run) {
  update({ run: run.key });
  drawSection("details"); // an empty section at the end of the page could not be scrolled to
  $("details").scrollIntoView({ block: "start" });
}
