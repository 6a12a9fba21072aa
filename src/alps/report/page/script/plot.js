// What all charts share: colors, layout, and drawing only what is on the screen.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const colour = (i) => COLOURS[i % COLOURS.length];
const dash = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];
// Buttons by name: the usual ones include one that sends the chart to a server.
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]] };

/** Text for plotly, which reads tags such as <b> and <a> in its labels. */
const safe = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const narrow = () => innerWidth < 700;

/** A label that fits beside a chart: its middle is cut, as names differ at their ends, too. */
function cut(text, most = 36) {
  const room = narrow() ? Math.min(most, 17) : most, half = Math.floor(room / 2);
  return text.length > room ? `${text.slice(0, room - half)}…${text.slice(1 - half)}` : text;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const methodNames = [...new Set(runs.map((run) => run.method))];

/** Share of light in a color, 0 for black. */
const lightness = (hex) => [0.3, 0.59, 0.11].reduce((sum, weight, i) => sum + weight * parseInt(hex.slice(2 * i + 1, 2 * i + 3), 16) / 255, 0);

/** Colors of the methods: those of reports, unless they would vanish on this theme. */
function methodColours() {
  const isDark = document.documentElement.dataset.theme === "dark", found = new Map();
  for (const method of methodNames) {
    const own = content.styles[method]?.color, light = own ? lightness(own) : 1;
    if (own && (isDark ? light > 0.25 : light < 0.72)) found.set(method, own.toLowerCase());
  }
  const free = ["#6a3d9a", ...COLOURS].filter((each) => ![...found.values()].includes(each));
  methodNames.filter((method) => !found.has(method)).forEach((method, i) => found.set(method, free[i % free.length]));
  return found;
}

function layout(changes = {}) {
  const line = css("--line"), text = css("--text");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, title: { standoff: 8 } };
  const { xaxis, yaxis, ...rest } = changes;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, family: "system-ui, sans-serif", size: parseFloat(getComputedStyle(document.body).fontSize) - 2 },
    margin: { l: 48, r: 12, t: 28, b: 40 }, hoverlabel: { bgcolor: css("--panel"), bordercolor: line, font: { color: text }, align: "left", namelength: -1 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: text },
    xaxis: { ...axis, ...xaxis, title: { ...axis.title, text: xaxis?.title } }, yaxis: { ...axis, ...yaxis, title: { ...axis.title, text: yaxis?.title } }, ...rest,
  };
}

const sections = new Map();
const visible = new Set();
const stale = new Set();
const PAUSE = 350;
let scheduled;

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

function drawSection(id) {
  stale.delete(id);
  sections.get(id).draw();
}

/** Draws what is stale and on the screen, one chart at a time, once typing pauses. */
function schedule(pause = 0) {
  if (!window.Plotly) return;
  clearTimeout(scheduled);
  scheduled = setTimeout(() => {
    const next = [...visible].find((id) => stale.has(id));
    if (!next) return performance.mark("charts");
    try {
      drawSection(next);
    } finally {
      schedule(); // an error of one section leaves the others
    }
  }, pause);
}

function markStale(names) {
  for (const [id, { watched }] of sections) if (!names || names.some((name) => watched.includes(name))) stale.add(id);
  schedule(names?.includes("q") ? PAUSE : 0);
}

/** Draws traces into the plot of a body, which is made once. */
function plot(body, traces, changes, click, config) {
  let node = body.firstElementChild;
  if (!node?.classList.contains("plot")) {
    node = el("div", { class: "plot" });
    body.replaceChildren(node);
  }
  if (changes.height) node.style.height = `${changes.height}px`;
  else node.style.removeProperty("height");
  Plotly.react(node, traces, layout(changes), { ...CONFIG, ...config });
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
