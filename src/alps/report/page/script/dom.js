// Elements and numbers as text. Texts become text nodes, never markup.

const $ = (id) => document.getElementById(id);

/** An element; `attributes` with a function are listeners, children are elements or texts. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** A labelled select; `options` are [value, text] pairs or values. */
function choice(label, options, value, change) {
  const select = el("select", { change: () => change(select.value) });
  for (const option of options) {
    const [own, text] = Array.isArray(option) ? option : [option, option];
    select.append(el("option", { value: own, selected: String(own) === String(value) }, text));
  }
  return el("label", { hidden: !options.length }, label + " ", select);
}

/** A sentence where there is nothing to show; a part in backticks is a command. */
function empty(sentence) {
  const parts = sentence.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));
  return el("p", { class: "empty" }, ...parts);
}

const DASH = "—";
const grouped = new Intl.NumberFormat("en"); // once: toLocaleString makes one for each cell

/** A number rounded to significant digits. */
function digits(value, count = 4) {
  if (value == null) return DASH;
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return grouped.format(value);
  const size = Math.abs(value);
  return size && (size < 1e-4 || size >= 1e7) ? value.toExponential(count - 1) : String(+value.toPrecision(count));
}

const percent = (value) => (value == null ? DASH : (100 * value).toFixed(2));
const fixed = (value) => (value == null ? DASH : Math.abs(value) < 1e5 ? value.toFixed(3) : digits(value));
const mebibytes = (value) => (value == null ? DASH : grouped.format(Math.round(value / 2 ** 20)));
const seconds = (value) => (value == null ? DASH : value < 100 ? value.toFixed(1) : grouped.format(Math.round(value)));
const plain = (value) => (value == null ? DASH : String(value));
