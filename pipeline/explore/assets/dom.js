// Every text of the data reaches the page through textContent; nothing here writes markup.

export const find = (id) => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const { dataset, aria, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  Object.assign(element.dataset, dataset);
  for (const [key, value] of Object.entries(aria ?? {})) element.setAttribute(key === "role" ? key : `aria-${key}`, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const button = (text, click, properties = {}) => {
  const element = make("button", { type: "button", textContent: text, ...properties });
  element.addEventListener("click", click);
  return element;
};

export const options = (values, chosen) => values.map((value) => {
  const [id, label] = Array.isArray(value) ? value : [value, value.replaceAll("_", " ")];
  return make("option", { value: id, textContent: label, selected: id === chosen });
});

export const choice = (label, values, chosen, change) => {
  const select = make("select", {}, options(values, chosen));
  select.addEventListener("change", () => change(select.value));
  return make("label", {}, `${label} `, select);
};

export const check = (label, checked, change) => {
  const box = make("input", { type: "checkbox", checked });
  box.addEventListener("change", () => change(box.checked));
  return make("label", {}, box, ` ${label}`);
};

export const field = (label, properties, input = () => {}) => {
  const box = make(properties.rows ? "textarea" : "input", properties);
  box.addEventListener("input", () => input(box.value));
  return make("label", { className: properties.wide ? "wide" : "" }, `${label} `, box);
};

const minus = (text) => text.replace("-", "−");
export const fixed = (value, digits = 3) => (value === null || value === undefined || Number.isNaN(value) ? "–" : minus(value.toFixed(digits)));
export const signed = (value, digits = 3) => (value > 0 ? "+" : "") + fixed(value, digits);
export const headName = ({ layer, head }) => `${layer}.${head}`;
export const share = (element, value) => element.style.setProperty("--share", Math.max(0, Math.min(1, value || 0)).toFixed(3));

export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

export function table(headings, rows) {
  const head = make("tr", {}, headings.map((name) => make("th", { textContent: name, scope: "col" })));
  const body = rows.map((cells) => make("tr", { className: cells.className ?? "" }, cells.map((cell) => make("td", {}, cell))));
  return make("table", { className: "plain" }, make("thead", {}, head), make("tbody", {}, body));
}

// Arrow keys over elements that stand in rows: `move(from, dx, dy)` gives the next one, or null.
export function arrows(event, move) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step) return false;
  event.preventDefault();
  move(...step);
  return true;
}

// What rows of a pattern attend to that have no key, in words.
export const EDGES = { self: "themselves", cls: "the first token", uniform: "all tokens evenly", original: "what they did before" };
