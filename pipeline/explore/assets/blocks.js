// Predicates from blocks: a tree that a person edits, and the same as patterns.yaml writes it.

import { button, check, choice, field, make } from "./dom.js";
import { state } from "./state.js";

const FIRST = { same_token: () => ({ casefold: true, exclude_self: true, exclude_types: [] }), same_segment: () => "sentence", offset: () => [-1, -1], query: () => "special", key: () => "separator", dependency: () => ({ relation: state.run.relations[0], direction: state.run.directions[0] }) };
const NAMES = { same_token: "same token", same_segment: "same sentence or segment", offset: "offset", query: "the query is", key: "the key is", dependency: "dependency" };

export const block = (kind, setting = FIRST[kind]()) => ({ kind, setting, not: false });
export const group = (parts = [], how = "and") => ({ kind: "group", how, parts, not: false });

// ---- as the file has it ------------------------------------------------------------------------------------------

const settings = {
  same_token: ({ casefold, exclude_self: self, exclude_types: types }) => ({ ...(casefold ? { casefold } : {}), ...(self ? {} : { exclude_self: false }), ...(types.length ? { exclude_types: types } : {}) }),
  offset: ([low, high]) => (low === high ? low : [low, high]),
};

export function written(node) {
  const own = node.kind === "group" ? joined(node) : node.kind === "as_is" ? node.setting : { [node.kind]: (settings[node.kind] ?? ((value) => value))(node.setting) };
  return own && node.not ? { not: own } : own;
}

function joined({ how, parts }) {
  const own = parts.map(written).filter(Boolean);
  return own.length > 1 ? { [how]: own } : own[0] ?? null;
}

export function read(predicate) {
  const [[kind, value]] = Object.entries(predicate);
  if (kind === "and" || kind === "or") return group(value.map(read), kind);
  if (kind === "not") { const inside = read(value); return { ...(inside.not ? group([inside]) : inside), not: true }; }
  if (kind === "offset") return block(kind, Array.isArray(value) ? value : [value, value]);
  if (kind === "same_token") return block(kind, { ...FIRST.same_token(), casefold: false, ...value });
  if (kind === "dependency" && !state.run.relations.length) return { kind: "as_is", setting: predicate, not: false };
  if (kind === "dependency") return block(kind, { ...FIRST.dependency(), ...value });
  return FIRST[kind] ? block(kind, value) : { kind: "as_is", setting: predicate, not: false };
}

export const asGroup = (node) => (node.kind === "group" && !node.not ? node : group([node]));

// In words, for lists and labels.
export function inWords(predicate) {
  const [[kind, value]] = Object.entries(predicate);
  if (kind === "and" || kind === "or") return value.map((each) => (each.and || each.or ? `(${inWords(each)})` : inWords(each))).join(` ${kind} `);
  if (kind === "not") return `not (${inWords(value)})`;
  if (kind === "offset") return `offset ${[value].flat().map((each) => `${each > 0 ? "+" : ""}${each}`.replace("-", "−")).join(" to ")}`;
  if (kind === "same_token") return `same token${value.casefold ? ", any case" : ""}${value.exclude_self === false ? ", itself too" : ""}${value.exclude_types ? `, no ${value.exclude_types.join(", ").replaceAll("_", " ")}` : ""}`;
  if (kind === "same_segment") return `same ${value}`;
  if (kind === "dependency") return `${value.direction === "head->dep" ? "dependent" : "governor"} by ${value.relation}`;
  if (kind === "query" || kind === "key") return `${kind} is ${value.replaceAll("_", " ")}`;
  return `${kind} ${JSON.stringify(value)}`;
}

// ---- as it is edited ---------------------------------------------------------------------------------------------

const editors = {
  same_token: (node, changed) => [
    check("any case", node.setting.casefold, (on) => { node.setting.casefold = on; changed(); }),
    check("itself too", !node.setting.exclude_self, (on) => { node.setting.exclude_self = !on; changed(); }),
    leftOut(node, changed),
  ],
  same_segment: (node, changed) => [choice("within", state.run.segments, node.setting, (value) => { node.setting = value; changed(); })],
  offset: (node, changed) => ["from", "to"].map((name, at) => field(name, { type: "number", step: 1, min: -512, max: 512, value: node.setting[at] }, (text) => offset(node, at, text, changed))),
  query: (node, changed) => [choice("of class", state.run.classes, node.setting, (value) => { node.setting = value; changed(); })],
  key: (node, changed) => [choice("of class", state.run.classes, node.setting, (value) => { node.setting = value; changed(); })],
  dependency: (node, changed) => [
    choice("relation", state.run.relations, node.setting.relation, (value) => { node.setting.relation = value; changed(); }),
    choice("key is", [[state.run.directions[0], "its governor"], [state.run.directions[1], "what it governs"]], node.setting.direction, (value) => { node.setting.direction = value; changed(); }),
  ],
  as_is: (node) => [make("code", { textContent: JSON.stringify(node.setting) })],
};

function offset(node, at, text, changed) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value)) return;
  node.setting[at] = value;
  if (node.setting[0] <= node.setting[1]) changed();
}

function leftOut(node, changed) {
  const boxes = state.run.classes.map((name) => check(name.replaceAll("_", " "), node.setting.exclude_types.includes(name), (on) => {
    node.setting.exclude_types = state.run.classes.filter((each) => (each === name ? on : node.setting.exclude_types.includes(each)));
    changed();
  }));
  return make("details", { className: "left-out" }, make("summary", { textContent: "leave out classes" }), boxes);
}

export function edited(node, changed, redraw, remove = null) {
  const not = check("not", node.not, (on) => { node.not = on; changed(); });
  const gone = remove ? button("remove", remove, { className: "quiet" }) : null;
  if (node.kind !== "group") {
    const kinds = Object.entries(NAMES).filter(([kind]) => kind !== "dependency" || state.run.relations.length), own = editors[node.kind](node, changed);
    const kind = node.kind === "as_is" ? null : choice("", kinds, node.kind, (value) => { Object.assign(node, block(value), { not: node.not }); redraw(); changed(); });
    kind?.querySelector("select").setAttribute("aria-label", "kind of block");
    return make("div", { className: "block" }, not, kind, own, gone);
  }
  const how = choice("Holds where", [["and", "all of these hold"], ["or", "any of these holds"]], node.how, (value) => { node.how = value; changed(); });
  const without = (part) => () => { node.parts.splice(node.parts.indexOf(part), 1); redraw(); changed(); };
  const parts = node.parts.map((part) => edited(part, changed, redraw, without(part)));
  const more = (made) => () => { node.parts.push(made()); redraw(); changed(); };
  const adding = make("div", { className: "buttons" }, button("Add a block", more(() => block("offset"))), button("Add a group", more(() => group([block("offset")]))));
  return make("fieldset", { className: "group" }, make("legend", {}, how, remove ? not : null, gone), parts, adding);
}
