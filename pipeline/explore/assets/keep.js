// What a person has found: patterns with names and reasons, saved as a file that runs; and a log of decisions.

import { complain, get, post, quiet } from "./api.js";
import { inWords } from "./blocks.js";
import { EDGES, button, choice, field, find, headName, make, table } from "./dom.js";
import { edit } from "./pattern.js";
import { on, set, state } from "./state.js";

const PLACES = [["seen", "the heads where they were seen"], ["relevant", "the most relevant heads"], ["students", "students, every layer"], ["none", "nowhere, only measured"]];
const DECISIONS = [["kept", "keep the head"], ["rejected", "reject it"], ["note", "note"]];
const form = { name: "", mode: "mask", empty: "", why: "", seen: new Set() };
const own = { person: "", why: "", place: "seen" };
const decided = { decision: "note", why: "" };

const said = (text, className = "hint") => make("p", { className, textContent: text, aria: { role: "status" } });

// ---- one pattern -------------------------------------------------------------------------------------------------

function drawPattern() {
  if (!state.run) return;
  const seen = [...form.seen].sort().map((name) => make("li", {}, make("b", { textContent: name }), " ", button("take out", () => { form.seen.delete(name); drawPattern(); }, { className: "quiet", ariaLabel: `take out head ${name}` })));
  const name = headName(state.head);
  const add = button(`Seen in ${name}`, () => { form.seen.add(name); drawPattern(); }, { disabled: form.seen.has(name), id: "seen" });
  find("keep-pattern").replaceChildren(
    make("p", { className: "words", textContent: state.predicate ? `This pattern: ${inWords(state.predicate)}` : "There is no pattern to keep yet." }),
    make("div", { className: "controls" },
      field("Name", { value: form.name, id: "pattern-name", maxLength: 60, autocomplete: "off" }, (value) => { form.name = value; }),
      choice("In a head, weights", [["mask", "by content"], ["fix", "even"]], form.mode, (value) => { form.mode = value; }),
      choice("rows without a key attend to", [["", "what is usual"], ...state.run.edges.map((each) => [each, EDGES[each] ?? each])], form.empty, (value) => { form.empty = value; })),
    field("Why", { value: form.why, id: "pattern-why", maxLength: 2000, wide: true }, (value) => { form.why = value; }),
    make("ul", { className: "chips" }, seen, make("li", { className: "plain" }, add)),
    make("div", { className: "buttons" }, button("Keep this pattern", keep, { id: "keep-it", disabled: !state.predicate })));
}

function keep() {
  const name = form.name.trim();
  if (!name) { find("pattern-name").focus(); complain(new Error("a pattern needs a name")); return; }
  const pattern = { pred: state.predicate, mode: form.mode, ...(form.empty ? { empty: form.empty } : {}), ...(form.why.trim() ? { why: form.why.trim() } : {}), ...(form.seen.size ? { seen_in: [...form.seen].sort() } : {}) };
  Object.assign(form, { name: "", why: "", seen: new Set() });
  quiet();
  set({ kept: new Map(state.kept).set(name, pattern) });
}

function drawKept() {
  const rows = [...state.kept].map(([name, pattern]) => [name, inWords(pattern.pred), (pattern.seen_in ?? []).join(", "), pattern.why ?? "",
    make("span", { className: "buttons" }, button("edit", () => change(name, pattern), { className: "quiet", ariaLabel: `edit ${name}` }), button("remove", () => { const left = new Map(state.kept); left.delete(name); set({ kept: left }); }, { className: "quiet", ariaLabel: `remove ${name}` }))]);
  find("kept").replaceChildren(...(rows.length ? [make("div", { className: "scroll" }, table(["Name", "Pattern", "Seen in", "Why", ""], rows))] : []));
}

function change(name, pattern) {
  Object.assign(form, { name, mode: pattern.mode ?? "mask", empty: pattern.empty ?? "", why: pattern.why ?? "", seen: new Set(pattern.seen_in ?? []) });
  edit(pattern.pred);
  drawPattern();
}

// ---- the file ----------------------------------------------------------------------------------------------------

function injection() {
  const names = [...state.kept.keys()];
  if (own.place === "none") return null;
  if (own.place === "relevant") return { target: "in_place", assign: { strategy: "by_relevance", most: 2 } };
  if (own.place === "students") return { target: "student", assign: { strategy: "per_layer_cycle", order: names } };
  const heads = {};
  for (const [name, { seen_in: seen = [] }] of state.kept) {
    for (const head of seen) {
      if (heads[head]) throw new Error(`head ${head} has two patterns, ${heads[head]} and ${name}; take it out of one`);
      heads[head] = name;
    }
  }
  if (!Object.keys(heads).length) throw new Error("no pattern says in which head it was seen; add heads, or choose another place");
  return { target: "in_place", assign: { strategy: "map", heads } };
}

// As a shell and Hydra read it.
const override = (path) => (/^[\w./-]+$/.test(path) ? `patterns.path=${path}` : `'patterns.path="${path}"'`);

async function save(replaces) {
  const place = find("saved");
  try {
    const inject = injection();
    const asked = { patterns: Object.fromEntries(state.kept), person: own.person, why: own.why, ...(inject ? { inject } : {}), ...(replaces ? { replaces } : {}) };
    const found = await post("/api/save", asked);
    const command = own.place === "students" ? `headlight run ${override(found.path)} students.train=FILE students.test=FILE` : `headlight run ${override(found.path)}${inject ? " patterns.in_place=true" : ""}`;
    place.replaceChildren(said(`Saved to ${found.path}; the log is ${found.log}.`, "done"), make("p", {}, "Run it with ", make("code", { textContent: command }), " and the overrides of your run."));
    await history();
  } catch (error) {
    if (error.status !== 409) { place.replaceChildren(said(error.message, "trouble")); return; }
    const { there } = await get("/api/patterns"); // what is agreed to is this file, and no later one
    if (await agreed(error.message)) await save(there?.digest);
    else place.replaceChildren(said("Nothing was replaced."));
  }
}

function agreed(message) {
  const dialog = find("replace");
  dialog.querySelector("p").textContent = message;
  return new Promise((resolve) => {
    const answer = (event) => { if (event.type === "close" || event.target.value) { dialog.removeEventListener("close", answer); dialog.querySelectorAll("button").forEach((each) => each.removeEventListener("click", answer)); dialog.close(); resolve(event.target.value === "yes"); } };
    dialog.querySelectorAll("button").forEach((each) => each.addEventListener("click", answer));
    dialog.addEventListener("close", answer);
    dialog.showModal();
  });
}

function drawSave() {
  if (!state.run) return;
  find("save").replaceChildren(
    make("h3", { textContent: "Save" }),
    make("div", { className: "controls" },
      field("Who are you?", { value: own.person, id: "person", maxLength: 200, autocomplete: "name" }, (value) => { own.person = value; }),
      choice("Put the patterns into", PLACES, own.place, (value) => { own.place = value; })),
    field("Why these?", { value: own.why, id: "chosen-why", rows: 2, maxLength: 2000, wide: true }, (value) => { own.why = value; }),
    make("div", { className: "buttons" }, button(`Save ${state.kept.size || ""} to ${state.run.save}`.replace("  ", " "), () => save(), { id: "save-it", disabled: !state.kept.size })),
    make("div", { id: "saved" }));
}

// ---- decisions ---------------------------------------------------------------------------------------------------

function drawDecisions(log) {
  const why = field("Why", { value: decided.why, id: "decision-why", maxLength: 2000, wide: true }, (value) => { decided.why = value; });
  const rows = log.slice(-20).reverse().map((entry) => [entry.when ?? "", entry.person ?? "", entry.did ?? "", entry.head ?? "", entry.why ?? ""].map(String));
  find("decisions").replaceChildren(
    make("h3", { textContent: "Decisions" }), make("p", { className: "hint", textContent: "What you decide of a head, and why, goes into a log that only grows, under the name above." }),
    make("div", { className: "controls" }, make("b", { textContent: `Head ${headName(state.head)}`, id: "decision-head" }), choice("", DECISIONS, decided.decision, (value) => { decided.decision = value; })),
    why, make("div", { className: "buttons" }, button("Write it down", decide, { id: "decide" })),
    make("details", {}, make("summary", { textContent: `The log (${log.length})` }), make("div", { className: "scroll" }, table(["When", "Who", "What", "Head", "Why"], rows))));
}

async function decide() {
  try {
    await post("/api/decide", { person: own.person, decision: decided.decision, why: decided.why, head: headName(state.head), pattern: state.predicate ? inWords(state.predicate) : "" });
    decided.why = "";
    quiet();
    await history();
  } catch (error) { complain(error); }
}

async function history() {
  const { decisions } = await get("/api/patterns");
  set({ decisions });
}

export async function setUpKeep() {
  on(["run", "head", "predicate", "kept"], drawPattern);
  on(["kept"], drawKept);
  on(["run", "kept"], drawSave);
  on(["decisions"], () => drawDecisions(state.decisions));
  on(["head"], () => { const place = find("decision-head"); if (place) place.textContent = `Head ${headName(state.head)}`; });
  const { there, decisions } = await get("/api/patterns");
  if (there?.file) {
    set({ kept: new Map(Object.entries(there.file.patterns)) });
    if (there.file.chosen_by) own.person = there.file.chosen_by.person;
  }
  set({ decisions });
}
