// The pattern that is being built, and how much of every head's attention it accounts for.

import { complain, latest, post, quiet, stream } from "./api.js";
import { asGroup, block, edited, group, inWords, read, written } from "./blocks.js";
import { button, find, fixed, headName, make } from "./dom.js";
import { on, set, state } from "./state.js";

const PAUSE = 250; // ms after the last change
let tree = group(), timer = null, touched = false;
const [measureCall, extremesCall] = [latest(), latest()];

const draw = () => find("builder").replaceChildren(edited(tree, changed, draw));

function changed() {
  touched = true;
  clearTimeout(timer);
  timer = setTimeout(() => set({ predicate: written(tree) }), PAUSE);
}

export function edit(predicate) {
  touched = true;
  tree = asGroup(read(predicate));
  draw();
  set({ predicate: written(tree) });
}

async function measure() {
  const signal = measureCall(), bar = find("progress");
  set({ relevance: null });
  if (!state.predicate) { bar.hidden = true; return; }
  bar.hidden = false;
  bar.removeAttribute("value");
  try {
    const asked = { predicate: state.predicate, queries: find("queries").value, random: find("random").checked };
    const found = await stream("/api/measure", asked, (done, total) => { bar.value = done / total; }, signal);
    set({ relevance: found, ...(found && touched ? { metric: "live" } : {}) });
    quiet();
  } catch (error) { complain(error); }
  if (!signal.aborted) bar.hidden = true;
}

function tell() {
  const place = find("relevance"), found = state.relevance;
  if (!state.predicate) { place.replaceChildren(make("p", { className: "hint", textContent: "Add a block to begin." })); return; }
  const what = make("p", { className: "words", textContent: inWords(state.predicate) });
  if (!found) { place.replaceChildren(what, make("p", { className: "hint", textContent: "being measured …" })); return; }
  const { layer, head } = state.head, score = found.scores[layer][head];
  const all = found.scores.flat().filter((value) => value !== null), rank = 1 + all.filter((value) => value > score).length;
  const times = found.uniform > 0 && score !== null ? `, ${fixed(score / found.uniform, 1)} times that of even attention` : "";
  const error = found.errors[layer][head] === null ? "" : ` ± ${fixed(found.errors[layer][head])} (standard error over texts)`;
  const told = score === null ? "The pattern applies in none of the texts." : `Head ${headName(state.head)}: ${fixed(score)}${error}, rank ${rank} of ${all.length}${times}.`;
  place.replaceChildren(what, make("p", { className: "words", textContent: told }), score === null ? "" : gauge(found, score), best(found), verdict(found, score));
}

function verdict(found, score) {
  const clear = score !== null && score > found.times_uniform, above = score !== null && found.heads_bar !== null && score > found.heads_bar;
  const { layer, head } = state.head, judged = found.significant?.[layer][head];
  const significant = judged === undefined ? "A head is significant above three times even attention and above random models." : `${judged ? "✓ significant" : "✗ not significant"}: three times even attention and the random models' bar are to be exceeded; ${found.significant.flat().filter(Boolean).length} heads do.`;
  const text = found.times_uniform >= 1
    ? "It holds nearly everywhere: three times even attention is more than any head can have."
    : `${clear ? "✓ above" : "✗ not above"} three times even attention; ${above ? "✓ above" : "✗ not above"} the bar of this model's heads. ${significant}`;
  return make("p", { className: "hint", textContent: `${text} Measured on ${found.applies} of ${found.texts} texts.` });
}

// One scale from 0 to 1 with the head and what it is compared with, each named.
function gauge(found, score) {
  const marks = [["even", found.uniform], ["3 × even", found.times_uniform], ["heads' bar", found.heads_bar], ...(found.random_bar === null ? [] : [["random bar", found.random_bar]]), [headName(state.head), score]];
  const top = Math.min(1, Math.max(0.1, 1.1 * Math.max(...marks.map(([, value]) => value ?? 0))));
  const rows = marks.map(([name, value], at) => {
    const bar = make("i", { className: at === marks.length - 1 ? "own" : "" });
    bar.style.width = `${100 * Math.min(1, (value ?? 0) / top)}%`;
    return make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { className: "number", textContent: fixed(value) }), make("td", { className: "bar-cell" }, bar));
  });
  return make("table", { className: "gauge" }, make("tbody", {}, rows));
}

function best(found) {
  const heads = found.scores.flatMap((row, layer) => row.map((score, head) => ({ layer, head, score }))).filter(({ score }) => score !== null);
  const top = heads.sort((a, b) => b.score - a.score).slice(0, 5);
  const buttons = top.map(({ layer, head, score }) => button(`${layer}.${head}  ${fixed(score, 2)}`, () => set({ head: { layer, head } })));
  return make("p", { className: "buttons" }, make("span", { textContent: "Most relevant: " }), buttons);
}

async function extremes() {
  const signal = extremesCall(), place = find("extremes");
  if (!state.relevance || !state.predicate) { place.replaceChildren(); return; }
  try {
    const found = await post("/api/extremes", { predicate: state.predicate, queries: state.relevance.queries, ...state.head }, signal);
    place.replaceChildren(listed("Texts that agree most", found.best), listed("Texts that agree least", found.worst));
  } catch (error) { complain(error); }
}

function listed(title, texts) {
  const items = texts.map(([number, score]) => make("li", {}, make("b", { textContent: fixed(score) }), " ", button(state.run.texts[number].title, () => set({ document: number }), { className: "link" })));
  return make("div", {}, make("h3", { textContent: title }), make("ol", { className: "texts" }, items));
}

export function setUpPattern() {
  for (const id of ["queries", "random"]) find(id).addEventListener("change", measure);
  // The first pattern waits for the survey, which reads the attention that both need.
  on(["run"], () => { tree = group([block("offset")]); draw(); });
  on(["survey"], () => { if (!touched) set({ predicate: written(tree) }); });
  on(["predicate"], measure);
  on(["predicate", "relevance", "head"], tell);
  on(["relevance", "head"], extremes);
}
