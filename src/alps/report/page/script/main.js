// Starts the page: the table at once, the charts as soon as plotly is there and they are in view.

const dark = matchMedia("(prefers-color-scheme: dark)");

function stored(value) {
  try {
    if (value !== undefined) localStorage.setItem("alps-theme", value);
    return localStorage.getItem("alps-theme") || "auto";
  } catch {
    return "auto"; // some browsers keep nothing for local files
  }
}

function applyTheme() {
  const theme = $("theme").value === "auto" ? (dark.matches ? "dark" : "light") : $("theme").value;
  document.documentElement.dataset.theme = theme;
  markStale();
}

function refresh(names) {
  if (!names || names.some((name) => ["q", "facets", "brush", "sort"].includes(name))) {
    rowsShown = STEP;
    applyFilter();
    drawTable();
  } else if (names.includes("cols")) drawTable();
  else if (names.includes("sel")) markChosen();
  if (!names || names.includes("facets")) drawFacets();
  markStale(names);
}

$("title").textContent = content.title;
$("about").textContent = `${content.source} · written ${content.written.replace("T", " ").replace("Z", " UTC")} · alps ${content.version} · ${content.command}`;
$("warnings").append(...content.pairs.omitted.map((text) => el("li", {}, text)));
$("theme").value = stored();
$("theme").addEventListener("change", () => { stored($("theme").value); applyTheme(); });
dark.addEventListener("change", applyTheme);
$("query").addEventListener("input", () => update({ q: $("query").value }));
$("clear").addEventListener("click", () => { $("query").value = ""; update({ q: "", facets: {}, brush: "", sort: "" }); });
$("more").addEventListener("click", showMore);
$("table").addEventListener("scroll", ({ target }) => {
  const atEnd = target.scrollTop > 0 && target.scrollTop + target.clientHeight > target.scrollHeight - 60;
  if (atEnd && rowsShown < matching.length) showMore();
});
$("unchoose").addEventListener("click", () => update({ sel: [] }));
$("copy").addEventListener("click", async () => {
  writeAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    $("copy").textContent = "Copied";
  } catch {
    $("copy").textContent = "Copy it from the address bar";
  }
  setTimeout(() => { $("copy").textContent = "Copy link"; }, 2000);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("query").focus();
  }
});
function open() {
  readAddress();
  $("query").value = state.q;
  drawColumnMenu();
  refresh();
}

addEventListener("hashchange", open);
watchers.push(refresh);
open();
applyTheme();
performance.mark("usable");
document.addEventListener("DOMContentLoaded", () => {
  for (const id of sections.keys()) observer.observe($(id));
  document.documentElement.dataset.ready = "all";
});
