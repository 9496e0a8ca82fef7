// Heads switched off, turned down or given a pattern; what is predicted, and why, before and after, side by side.

import { complain, latest, post, quiet, stream } from "./api.js";
import { inWords } from "./blocks.js";
import { EDGES, button, choice, find, fixed, headName, make, options, share, signed } from "./dom.js";
import { on, set, state } from "./state.js";

const PAUSE = 200;
let timer = null, mode = "fix", empty = "self";
const [changeCall, sampleCall] = [latest(), latest()];

const without = (map, name) => { const left = new Map(map); left.delete(name); return left; };
const withOne = (map, name, value) => new Map(map).set(name, value);

const request = () => ({ gates: Object.fromEntries(state.gates), patterns: Object.fromEntries([...state.inPlace].map(([name, { pred, mode: how, empty: edge }]) => [name, { pred, mode: how, empty: edge }])) });

function drawHead() {
  if (!state.run) return;
  const name = headName(state.head), gate = state.gates.get(name) ?? 1;
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: gate, aria: { label: `gate of head ${name}` } });
  const shown = make("output", { textContent: fixed(gate, 2) });
  slider.addEventListener("input", () => { shown.textContent = fixed(Number(slider.value), 2); gateTo(name, Number(slider.value)); });
  const off = button(gate === 0 ? "Switch on" : "Switch off", () => gateTo(name, gate === 0 ? 1 : 0));
  const put = button("Give it the pattern above", () => set({ inPlace: withOne(state.inPlace, name, { pred: state.predicate, mode, empty }) }), { disabled: !state.predicate });
  find("change-head").replaceChildren(
    make("div", { className: "controls" }, make("b", { textContent: `Head ${name}` }), make("label", {}, "gate ", slider, " ", shown), off),
    make("div", { className: "controls" }, put,
      choice("weights", [["fix", "even"], ["mask", "by content"]], mode, (value) => { mode = value; }),
      choice("rows without a key attend to", [...state.run.edges.map((each) => [each, EDGES[each] ?? each])], empty, (value) => { empty = value; })));
}

const gateTo = (name, gate) => set({ gates: gate === 1 ? without(state.gates, name) : withOne(state.gates, name, gate) });

function drawList() {
  const gates = [...state.gates].map(([name, gate]) => item(name, gate === 0 ? "off" : `gate ${fixed(gate, 2)}`, () => set({ gates: without(state.gates, name) })));
  const patterns = [...state.inPlace].map(([name, { pred, mode: how }]) => item(name, `${how === "fix" ? "even" : "content"} where ${inWords(pred)}`, () => set({ inPlace: without(state.inPlace, name) })));
  const all = [...gates, ...patterns];
  const clear = all.length > 1 ? button("undo all", () => set({ gates: new Map(), inPlace: new Map() }), { className: "quiet" }) : null;
  find("changed").replaceChildren(all.length ? make("ul", { className: "chips" }, all, clear) : make("p", { className: "hint", textContent: "No head is changed." }));
  find("sample").disabled = !all.length;
}

const item = (name, what, undo) => make("li", {}, make("b", { textContent: name }), ` ${what} `, button("undo", undo, { className: "quiet", ariaLabel: `undo head ${name}` }));

function later() {
  clearTimeout(timer);
  timer = setTimeout(compare, PAUSE);
}

async function compare() {
  const signal = changeCall();
  if (!state.text || !find("method").value) return;
  find("sides").setAttribute("aria-busy", "true");
  try {
    const found = await post("/api/change", { ...request(), document: state.text.number, method: find("method").value }, signal);
    draw(found);
    quiet();
  } catch (error) {
    if (error.name === "AbortError") return;
    find("sides").replaceChildren();
    find("change-hint").textContent = error.message;
  }
  find("sides").removeAttribute("aria-busy");
}

function draw(found) {
  const top = Math.max(...[found.before, found.after].flatMap(({ scores }) => scores.map(Math.abs)), 1e-12);
  const name = label(found.target, found.target_end), changed = state.gates.size + state.inPlace.size;
  const flips = decision(found.before) !== decision(found.after) ? " The decision changes." : "";
  find("change-hint").textContent = `Both sides explain ${name}, which is predicted without changes; their colours have one scale, strongest ${fixed(top)}.${flips}`;
  find("sides").replaceChildren(side("As it is", found.before, null, top), ...(changed ? [side(`With ${changed} changed`, found.after, found.before, top)] : []));
}

const decision = ({ predicted, predicted_end: end }) => `${predicted} ${end}`;
const label = (target, end) => (end === null ? state.run.labels[target] ?? String(target) : `tokens ${target} to ${end}`);

function side(title, { predicted, predicted_end: end, probabilities, scores }, before, top) {
  const rows = probabilities.map((value, at) => {
    const bar = make("i"), name = end === null ? label(at, null) : ["start", "end"][at];
    bar.style.width = `${100 * value}%`;
    const apart = before ? signed(value - before.probabilities[at]) : "";
    return make("tr", { className: at === predicted && end === null ? "predicted" : "" }, make("th", { scope: "row", textContent: `${at === predicted && end === null ? "▸ " : ""}${name}` }), make("td", { className: "number", textContent: fixed(value) }), make("td", { className: "number hint", textContent: apart }), make("td", { className: "bar-cell" }, bar));
  });
  const shown = probabilities.length > 12 ? rows.filter((_, at) => at === predicted) : rows;
  return make("div", {}, make("h3", { textContent: title }), make("table", { className: "gauge" }, make("tbody", {}, shown)), line(scores, before?.scores, top));
}

function line(scores, before, top) {
  const { pieces, special } = state.text, numbers = find("numbers").checked;
  const tokens = scores.flatMap((score, at) => {
    const piece = pieces[at], apart = before ? ` (${signed(score - before[at])})` : "";
    const span = make("span", { className: `token ${score > 0 ? "for" : "against"}${special[at] ? " special" : ""}`, textContent: piece.trim(), title: `${piece.trim()}  ${signed(score)}${apart}`, dataset: { score: signed(score, 2) } });
    share(span, Math.abs(score) / top);
    return /^\s/.test(piece) && at ? [" ", span] : [span];
  });
  return make("p", { className: `text${numbers ? " numbers" : ""}` }, tokens);
}

async function sample() {
  const signal = sampleCall(), hint = find("change-hint");
  try {
    const found = await stream("/api/sample", request(), (done, total) => { hint.textContent = `${done} of ${total} texts`; }, signal);
    hint.textContent = `On ${found.texts} texts ${fixed(100 * found.same_decision, 1)} % of the decisions stay; relative entropy to what was predicted before: ${fixed(found.divergence, 4)} nats in the mean.`;
  } catch (error) { complain(error); }
}

export function setUpChange() {
  find("method").addEventListener("change", compare);
  find("sample").addEventListener("click", sample);
  find("numbers").addEventListener("change", later);
  on(["run"], () => find("method").replaceChildren(...options(state.run.methods.map((id) => [id, id]))));
  on(["run", "head", "predicate", "inPlace"], drawHead);
  on(["gates"], () => { if (!find("change-head").contains(document.activeElement) || document.activeElement.type !== "range") drawHead(); });
  on(["run", "gates", "inPlace"], drawList);
  on(["text", "gates", "inPlace"], later);
}
