// The map of layers by heads: one score in numbers and colours, or a picture of each head.

import { complain, latest, numbers } from "./api.js";
import { arrows, download, find, fixed, headName, make, options, share, table } from "./dom.js";
import { on, set, state } from "./state.js";
import { drawMap, drawOffsets, profile } from "./thumbs.js";

const GROUPS = { live: "what is being built", importance: "importance", role: "roles", relevance: "patterns of the run", attention: "attention on these texts" };
let cells = [];
const textCall = latest();

export const allMetrics = () => [...(state.relevance ? [liveMetric()] : []), ...state.metrics, ...(state.survey?.metrics ?? [])];
const current = () => allMetrics().find((metric) => metric.id === state.metric) ?? first() ?? null;

// What is shown unasked: an importance, else the role that most heads play.
function first() {
  const chosen = (metric) => metric.selected?.flat().filter(Boolean).length ?? 0;
  const roles = [...state.metrics].sort((a, b) => chosen(b) - chosen(a));
  return state.metrics.find((metric) => metric.group === "importance") ?? roles[0] ?? allMetrics()[0];
}

const liveMetric = () => ({ group: "live", id: "live", label: "relevance of the pattern below", values: state.relevance.scores, selected: state.relevance.significant, note: `Even attention ${fixed(state.relevance.uniform)}; ${state.relevance.applies} texts.` });

const finite = (values) => values.flat().filter((value) => value !== null);
const largest = (values) => Math.max(...finite(values).map(Math.abs), 0);

// What cells say: raw values, in a power of ten where they are small or large; or shares of the layer's largest.
function scaled(metric, perLayer) {
  const top = largest(metric.values), power = perLayer || !top || (top >= 0.095 && top < 100) ? 0 : Math.floor(Math.log10(top));
  const tops = metric.values.map((row) => (perLayer ? largest([row]) : top));
  const shown = (value, layer) => (perLayer ? value / (tops[layer] || 1) : value / 10 ** power);
  return { power, share: (value, layer) => Math.abs(value) / (tops[layer] || 1), shown };
}

const brief = (value) => (Math.abs(value) >= 9.95 ? value.toFixed(0) : Math.abs(value) >= 0.995 ? value.toFixed(1) : value.toFixed(2).replace("0.", ".")).replace("-", "−").replace(/^−?\.00$/, "0");

function rankOf(metric, layer, head) {
  const value = metric.values[layer][head];
  return value === null ? null : 1 + finite(metric.values).filter((other) => other > value).length;
}

// Heads from the highest value down; those of one value as they stand in the map.
const ranking = (metric) => metric.values.flatMap((row, layer) => row.map((value, head) => ({ layer, head, value })))
  .filter(({ value }) => value !== null).sort((a, b) => b.value - a.value);

function go(step) {
  const heads = current() ? ranking(current()) : [], { layer, head } = state.head;
  const next = heads[heads.findIndex((each) => each.layer === layer && each.head === head) + step];
  if (next) set({ head: { layer: next.layer, head: next.head } });
}

function build() {
  const { layers, heads } = state.run;
  const head = make("tr", {}, make("td", { textContent: "" }), [...Array(heads).keys()].map((number) => make("th", { textContent: number, scope: "col" })));
  cells = [...Array(layers).keys()].map((layer) => [...Array(heads).keys()].map((number) => cellOf(layer, number)));
  const body = cells.map((row, layer) => make("tr", {}, make("th", { textContent: layer, scope: "row" }), row));
  find("grid").replaceChildren(make("caption", { textContent: "rows: layers, columns: heads, both from 0" }), make("thead", {}, head), make("tbody", {}, body));
}

function cellOf(layer, head) {
  const cell = make("td", { tabIndex: -1, aria: { role: "gridcell" } });
  const choose = () => { set({ head: { layer, head } }); cell.focus({ preventScroll: true }); };
  cell.addEventListener("click", choose);
  cell.addEventListener("keydown", (event) => arrows(event, (dx, dy) => {
    const next = cells[layer + dy]?.[head + dx];
    if (next) next.click();
  }));
  return cell;
}

function draw() {
  if (!state.run || !cells.length) return;
  const metric = current(), view = find("view").value, perLayer = find("per-layer").checked;
  const signed = metric ? finite(metric.values).some((value) => value < 0) : false;
  const scale = metric ? scaled(metric, perLayer) : null;
  find("grid").className = `grid as-${view}`;
  cells.forEach((row, layer) => row.forEach((cell, head) => {
    const value = metric ? metric.values[layer][head] : null, chosen = metric?.selected?.[layer][head] ?? false;
    const picked = layer === state.head.layer && head === state.head.head;
    cell.className = `${value === null ? "missing" : value < 0 ? "against" : "for"}${picked ? " picked" : ""}${chosen ? " marked" : ""}${changed(layer, head)}`;
    cell.tabIndex = picked ? 0 : -1;
    cell.setAttribute("aria-selected", String(picked));
    share(cell, value === null || view !== "numbers" ? 0 : scale.share(value, layer));
    const rank = metric ? rankOf(metric, layer, head) : null;
    const words = `layer ${layer}, head ${head}: ${fixed(value, 4)}${rank ? `, rank ${rank}` : ""}${chosen ? ", selected by the run" : ""}`;
    cell.setAttribute("aria-label", words);
    cell.title = words;
    if (view === "numbers") cell.replaceChildren(value === null ? "–" : brief(scale.shown(value, layer)));
    else picture(cell, view, layer, head);
  }));
  find("grid-hint").textContent = hint(metric, view, perLayer, signed, scale);
  describe(metric);
}

const changed = (layer, head) => (state.gates.has(`${layer}.${head}`) || state.inPlace.has(`${layer}.${head}`) ? " changed" : "");

function picture(cell, view, layer, head) {
  const maps = view === "text" ? state.textMaps : state.survey;
  if (!maps || (view === "text" && maps.number !== state.text?.number)) { cell.replaceChildren("…"); return; }
  cell.replaceChildren(view === "offsets" ? drawOffsets(layer, head) : drawMap(maps, layer, head));
}

// Maps of all heads on the text below, once somebody looks at them.
async function readText() {
  const { text } = state, signal = textCall();
  if (find("view").value !== "text" || !text || state.textMaps?.number === text.number) return;
  try {
    const maps = await numbers(`/api/documents/${text.number}/maps`, signal);
    set({ textMaps: { number: text.number, maps, size: Math.sqrt(maps.length / (state.run.layers * state.run.heads)) } });
  } catch (error) { complain(error); }
}

function hint(metric, view, perLayer, signed, scale) {
  const keys = "Click, or choose with arrow keys. ";
  if (view === "maps") return `${keys}Mean attention from position (down) to position (across), over the texts that have both; strongest at each head's largest.`;
  if (view === "text") return `${keys}Attention in the text below from token (down) to token (across), the first 64; strongest at each head's largest.`;
  if (view === "offsets") return `${keys}Mean weight on keys ${state.survey?.offsets.reach ?? ""} to the left up to as many to the right; the middle is the token itself.`;
  if (!metric) return `${keys}The run has no scores of heads; those of attention are being read from its texts.`;
  const unit = perLayer ? "Shares of the layer's largest. " : scale.power ? `In 10 to the power of ${String(scale.power).replace("-", "−")}. ` : "";
  const colours = signed ? "Orange above 0, blue with a minus sign below. " : "";
  const marks = metric.selected?.flat().some(Boolean) ? "Underlined: selected by the run. " : "";
  return `${keys}${unit}${colours}${marks}${metric.note ?? ""}`;
}

function describe(metric) {
  const { layer, head } = state.head, count = state.run.layers * state.run.heads;
  const value = metric?.values[layer][head] ?? null;
  const told = metric && value !== null ? `${metric.label} ${fixed(value, 4)}, rank ${rankOf(metric, layer, head)} of ${count}` : "";
  find("chosen").replaceChildren(make("b", { textContent: `Head ${headName(state.head)}` }), told ? `  ${told}` : "");
  find("profile").replaceChildren(...(state.survey ? [profile(layer, head)] : []));
  const rows = allMetrics().map((each) => [each.label, fixed(each.values[layer][head], 4), String(rankOf(each, layer, head) ?? "–"), each.selected?.[layer][head] ? "selected" : ""]);
  find("all-scores").querySelector("div").replaceChildren(table(["Score", "Value", "Rank", ""], rows));
}

function offer() {
  const metrics = allMetrics(), chosen = current()?.id;
  const groups = Object.entries(GROUPS).map(([id, label]) => [label, metrics.filter((metric) => metric.group === id)]);
  find("metric").replaceChildren(...groups.filter(([, own]) => own.length).map(([label, own]) => make("optgroup", { label }, options(own.map((metric) => [metric.id, metric.label]), chosen))));
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text);

export function csv() {
  const metrics = allMetrics();
  const rows = cells.flatMap((row, layer) => row.map((_, head) => [layer, head, ...metrics.map((metric) => metric.values[layer][head] ?? "")]));
  return [["layer", "head", ...metrics.map((metric) => quoted(metric.id))], ...rows].map((row) => row.join(",")).join("\n") + "\n";
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

export function svg() {
  const metric = current(), scale = scaled(metric, find("per-layer").checked), size = 38, [left, top] = [30, 44];
  const { layers, heads } = state.run, parts = [];
  const write = (x, y, text, more = "") => parts.push(`<text x="${x}" y="${y}" ${more}>${escaped(text)}</text>`);
  write(left, 16, metric.label, 'font-weight="600"');
  for (let head = 0; head < heads; head += 1) write(left + (head + 0.5) * size, top - 8, head, 'text-anchor="middle"');
  metric.values.forEach((row, layer) => {
    write(left - 8, top + (layer + 0.62) * size, layer, 'text-anchor="end"');
    row.forEach((value, head) => {
      const [x, y, hue] = [left + head * size, top + layer * size, value < 0 ? "0,114,178" : "213,94,0"];
      const strength = value === null ? 0 : 0.62 * scale.share(value, layer);
      parts.push(`<rect x="${x}" y="${y}" width="${size - 1}" height="${size - 1}" fill="rgb(${hue})" fill-opacity="${strength.toFixed(3)}" stroke="#ddd"/>`);
      write(x + size / 2, y + size * 0.62, value === null ? "–" : brief(scale.shown(value, layer)), 'text-anchor="middle"');
    });
  });
  const [width, height] = [left + heads * size + 10, top + layers * size + 10];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#1d1f23"><rect width="100%" height="100%" fill="#fff"/>${parts.join("")}</svg>\n`;
}

export function setUpMap() {
  find("metric").addEventListener("change", (event) => set({ metric: event.target.value }));
  for (const id of ["view", "per-layer"]) find(id).addEventListener("change", () => { draw(); readText(); });
  on(["text"], readText);
  find("csv").addEventListener("click", () => download("heads.csv", "text/csv", csv()));
  find("svg").addEventListener("click", () => download("heads.svg", "image/svg+xml", svg()));
  find("higher").addEventListener("click", () => go(-1));
  find("lower").addEventListener("click", () => go(1));
  on(["run"], build);
  on(["run", "metrics", "survey", "relevance", "metric"], offer);
  on(["run", "metrics", "survey", "relevance", "metric", "head", "gates", "inPlace", "text", "textMaps"], draw);
}
