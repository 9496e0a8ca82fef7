// One head on one text: whose attention is shown, as background and numbers on the tokens it goes to.

import { complain, get, latest, numbers, post, quiet } from "./api.js";
import { arrows, find, fixed, make, options, share, table } from "./dom.js";
import { drawMatrix } from "./matrix.js";
import { on, set, state } from "./state.js";

const MOST = 8, FAINT = 0.03; // keys in the table; the share of the row's largest below which a token has no colour
let spans = [];
const [documentCall, attentionCall, whereCall] = [latest(), latest(), latest()];

// Tokens, or words with their tokens put together; what is hidden is left out.
function unitsOf(text, level, hidden) {
  const units = [], place = new Map();
  text.pieces.forEach((piece, at) => {
    const special = text.words[at] < 0, id = special || level === "token" ? `t${at}` : `w${text.words[at]}`;
    if (place.has(id)) { const unit = units[place.get(id)]; unit.text += piece; unit.tokens.push(at); return; }
    place.set(id, units.length);
    units.push({ text: piece, special, tokens: [at] });
  });
  return hidden ? units.filter((unit) => !unit.special) : units;
}

async function open(number) {
  const signal = documentCall();
  try {
    const text = await get(`/api/documents/${number}`);
    if (signal.aborted) return;
    set({ text, holds: null, query: Math.min(1, text.pieces.length - 1) });
    find("document").value = String(number);
    quiet();
  } catch (error) { complain(error); }
}

async function read() {
  if (!state.text) return;
  const signal = attentionCall(), level = find("level").value, hide = find("specials").checked;
  find("renormalise").disabled = !hide;
  const renormalise = hide && find("renormalise").checked;
  const asked = new URLSearchParams({ document: state.text.number, ...state.head, level, specials: hide ? "hidden" : "shown", renormalise: renormalise ? "yes" : "no" });
  try {
    const weights = await numbers(`/api/attention?${asked}`, signal);
    const units = unitsOf(state.text, level, hide);
    set({ attention: { weights, units, n: units.length, level, hide, renormalise }, query: Math.min(state.query, Math.max(0, units.length - 1)) });
    quiet();
  } catch (error) { complain(error); }
}

async function locate() {
  const signal = whereCall();
  if (!state.text || !state.predicate) { set({ holds: null }); return; }
  try {
    const found = await post("/api/where", { predicate: state.predicate, document: state.text.number, ...state.head }, signal);
    const bits = Uint8Array.from(atob(found.holds), (letter) => letter.charCodeAt(0));
    set({ holds: { bits, n: state.text.pieces.length, mass: found.mass, mean: found.mean } });
  } catch (error) { if (error.name !== "AbortError") set({ holds: null }); }
}

// Whether the pattern holds from any token of one unit to any of another.
export function holdsBetween(query, key) {
  const { holds } = state;
  if (!holds) return false;
  return query.tokens.some((from) => key.tokens.some((to) => { const at = from * holds.n + to; return Boolean(holds.bits[at >> 3] & (1 << (at & 7))); }));
}

function build() {
  const { units } = state.attention;
  spans = units.map((unit, at) => {
    const span = make("span", { className: `token${unit.special ? " special" : ""}`, textContent: unit.text.trim() || "␣", tabIndex: -1, aria: { role: "option" } });
    span.addEventListener("click", () => { set({ query: at }); span.focus({ preventScroll: true }); });
    span.addEventListener("keydown", (event) => arrows(event, (dx, dy) => choose(at + dx + dy * perLine())));
    return span;
  });
  find("strip").replaceChildren(...spans.flatMap((span, at) => (/^\s/.test(units[at].text) && at ? [" ", span] : [span])));
}

function choose(at) {
  const next = Math.max(0, Math.min(spans.length - 1, at));
  set({ query: next });
  spans[next]?.focus();
}

function perLine() {
  const top = spans[0]?.offsetTop;
  const next = spans.findIndex((span) => span.offsetTop > top + 4);
  return next > 0 ? next : 1;
}

// The share of a unit's row, its tokens' mean, that the pattern holds.
const massOf = (unit) => unit.tokens.reduce((sum, at) => sum + state.holds.mass[at], 0) / unit.tokens.length;

function show() {
  if (!state.attention) return;
  const { weights, units, n } = state.attention, { query } = state;
  const row = weights.subarray(query * n, (query + 1) * n), top = row.reduce((a, b) => Math.max(a, b), 0) || 1;
  const masses = state.holds && find("colours").value === "mass" ? units.map(massOf) : null;
  const values = masses ?? row, most = masses ? 1 : top;
  spans.forEach((span, at) => {
    const picked = at === query, held = holdsBetween(units[query], units[at]);
    span.classList.toggle("picked", picked);
    span.classList.toggle("held", held);
    span.classList.toggle("for", values[at] >= FAINT * most);
    share(span, values[at] / most);
    span.dataset.score = fixed(values[at], 2).replace(/^0\./, ".");
    span.tabIndex = picked ? 0 : -1;
    span.setAttribute("aria-selected", String(picked));
    span.title = `${units[at].text.trim()}  ${fixed(values[at])}`;
  });
  find("strip").classList.toggle("numbers", find("numbers").checked);
  legend(row, top);
  strongest(row);
  drawMatrix();
}

function legend(row, top) {
  const { units, hide, renormalise, level } = state.attention, unit = units[state.query], name = unit?.text.trim();
  const total = row.reduce((a, b) => a + b, 0);
  const specials = !hide ? "" : renormalise ? " Special tokens are hidden and rows add up to 1 again: these are not the model's weights." : ` Special tokens are hidden; what they get is missing here (the row adds up to ${fixed(total, 2)}).`;
  const words = level === "word" ? " What a word gets is added up over its tokens, what it gives is their mean." : "";
  const none = !state.holds && find("colours").value === "mass" ? " There is no pattern to hold anything: colours show where the token looks." : "";
  const mass = state.holds && unit ? ` The pattern (dashed underline) holds ${fixed(massOf(unit))} of this row, ${fixed(state.holds.mean)} of this head's attention in this text.` : "";
  find("text-hint").textContent = `“${name}” attends; strongest: ${fixed(top)}.${specials}${words}${mass}${none}`;
}

function strongest(row) {
  const { units } = state.attention, order = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, MOST);
  const rows = order.map((at) => [String(at), units[at].text.trim(), fixed(row[at]), String(at - state.query).replace("-", "−"), ...(state.holds ? [holdsBetween(units[state.query], units[at]) ? "holds" : ""] : [])]);
  find("keys").replaceChildren(table(["Place", "Key", "Weight", "Offset", ...(state.holds ? ["Pattern"] : [])], rows));
}

function offer() {
  const values = state.run.texts.map((text, at) => [String(at), `${at}  ${text.title}`]);
  find("document").replaceChildren(...options(values, String(state.document)));
}

const turn = (step) => set({ document: (state.document + step + state.run.texts.length) % state.run.texts.length });

export function setUpText() {
  find("document").addEventListener("change", (event) => set({ document: Number(event.target.value) }));
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  for (const id of ["level", "specials", "renormalise"]) find(id).addEventListener("change", read);
  for (const id of ["numbers", "colours"]) find(id).addEventListener("change", show);
  on(["run"], offer);
  on(["document"], () => open(state.document));
  on(["text", "head"], read);
  on(["text", "head", "predicate"], locate);
  on(["attention"], build);
  on(["attention", "query", "holds"], show);
}
