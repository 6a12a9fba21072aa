// Loss curves of the selected runs, or of the first ones that match.

const FEW = 8;
const AXES = { step: "step", tokens: "tokens", seconds: "seconds" };

function runsToShow(has) {
  const own = chosenRuns().filter(has);
  return own.length ? own : matching.filter(has).slice(0, FEW);
}

/** Color of a run: by its place in the selection, as the table shows it. */
function placeOf(run, i) {
  const place = state.sel.indexOf(run.key);
  return place >= 0 ? place : i;
}

section("curves", ["q", "facets", "brush", "sel", "axis", "sort"], (body, controls) => {
  const shown = runsToShow((run) => run.curve);
  const thinned = shown.filter((run) => run.curve.total > run.curve.step.length);
  controls.replaceChildren(
    choice("by", Object.entries(AXES), state.axis, (axis) => update({ axis })),
    note([chosenRuns().length ? "" : shown.length && `first ${shown.length} that match`,
      thinned.length ? `${thinned[0].curve.step.length} of ${grouped.format(thinned[0].curve.total)} steps drawn` : ""].filter(Boolean).join("; ")));
  if (!shown.length) return nothing(body, "No run here has a loss curve yet: `alps train method=alps` writes one.");
  const traces = shown.map((run, i) => ({
    type: "scatter", mode: run.curve.step.length < 30 ? "lines+markers" : "lines", name: safe(cut(run.label, 48)),
    x: run.curve[state.axis], y: run.curve.loss, line: { color: colour(placeOf(run, i)), dash: dash(placeOf(run, i)), width: 2 },
    text: run.curve.step.map((step, k) => `${safe(run.label)}<br>step ${step}, loss ${run.curve.loss[k]}<br>${digits(run.curve.tokens[k])} tokens, ${run.curve.seconds[k]} s`),
    hovertemplate: "%{text}<extra></extra>",
  }));
  plot(body, traces, { xaxis: { title: AXES[state.axis] }, yaxis: { title: "train loss" }, showlegend: true, hovermode: "closest" });
});
