// What all charts share: colors, layout, and drawing only what is on the screen.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const colour = (i) => COLOURS[i % COLOURS.length];
const dash = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

/** Text for plotly, which reads tags such as <b> and <a> in its labels. */
const safe = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const cut = (text, most = 34) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const methodNames = [...new Set(runs.map((run) => run.method))];

/** Color of a method in reports; white and black would vanish on one of the themes. */
function methodColour(method) {
  const own = (content.styles[method]?.color || "").toLowerCase();
  return own && !["#ffffff", "#000000"].includes(own) ? own : colour(methodNames.indexOf(method) + 3);
}

function layout(changes = {}) {
  const line = css("--line"), text = css("--text");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, title: { standoff: 8 } };
  const { xaxis, yaxis, ...rest } = changes;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, family: "system-ui, sans-serif", size: 12 },
    margin: { l: 48, r: 12, t: 8, b: 40 }, hoverlabel: { bgcolor: css("--panel"), bordercolor: line, font: { color: text }, align: "left", namelength: -1 },
    legend: { orientation: "h", y: -0.18, yanchor: "top", x: 0 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: text },
    xaxis: { ...axis, ...xaxis, title: { ...axis.title, text: xaxis?.title } }, yaxis: { ...axis, ...yaxis, title: { ...axis.title, text: yaxis?.title } }, ...rest,
  };
}

const sections = new Map();
const visible = new Set();
const stale = new Set();
let scheduled = false;

/** Registers a section: its controls, then a body that is drawn when it is on the screen. */
function section(id, watched, draw) {
  const panel = $(id), controls = el("div", { class: "bar" }), body = el("div");
  panel.append(controls, body);
  sections.set(id, { draw: () => draw(body, controls), watched });
  stale.add(id);
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? visible.add(target.id) : visible.delete(target.id);
  schedule();
}, { rootMargin: "150px" });

function schedule() {
  if (scheduled || !window.Plotly) return;
  scheduled = true;
  requestAnimationFrame(() => setTimeout(() => {
    scheduled = false;
    const next = [...visible].find((id) => stale.has(id));
    if (!next) return;
    stale.delete(next);
    sections.get(next).draw();
    schedule(); // one chart at a time leaves room for typing
  }));
}

function markStale(names) {
  for (const [id, { watched }] of sections) if (!names || names.some((name) => watched.includes(name))) stale.add(id);
  schedule();
}

/** Draws traces into the plot of a body, which is made once. */
function plot(body, traces, changes, click) {
  let node = body.firstElementChild;
  if (!node?.classList.contains("plot")) {
    node = el("div", { class: "plot" });
    body.replaceChildren(node);
  }
  if (changes.height) node.style.height = `${changes.height}px`;
  else node.style.removeProperty("height");
  Plotly.react(node, traces, layout(changes), CONFIG);
  node.removeAllListeners?.("plotly_click");
  if (click) node.on("plotly_click", ({ points }) => click(points[0]));
  return node;
}

/** Replaces a plot by a sentence. */
function nothing(body, sentence) {
  for (const node of body.querySelectorAll(".plot")) Plotly.purge(node);
  body.replaceChildren(empty(sentence));
}

const note = (text) => el("span", { class: "quiet" }, text);
