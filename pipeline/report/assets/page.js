"use strict";
// Every text of the data reaches the page through textContent; nothing here writes markup.

const find = (id) => document.getElementById(id);
const read = (id) => { const holder = find(id); return holder ? JSON.parse(holder.textContent) : null; };

function make(name, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(name), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const minus = (text) => text.replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + minus(String(Number(value.toPrecision(2))));

// ---- leaderboard: a click on a heading sorts each group of rows -------------------------------------------------

function sortBoard(board, heading, column) {
  const falls = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "ascending" : heading.dataset.direction !== "↓";
  board.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
  const value = (row) => parseFloat(row.cells[column].dataset.value);
  board.querySelectorAll("tbody[data-sort]").forEach((body) => {
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return falls ? y - x : x - y;
    });
    body.append(...rows);
  });
}

function setUpBoard(board) {
  board.querySelectorAll("thead th").forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (button) button.addEventListener("click", () => sortBoard(board, heading, column));
  });
}

// ---- curves: legend, highlighting, values at the pointer --------------------------------------------------------

function setUpChart(figure) {
  const plot = figure.querySelector(".plot"), svg = plot.querySelector("svg");
  const readout = plot.querySelector(".readout"), cursor = svg.querySelector(".cursor");
  const series = new Map([...svg.querySelectorAll("g[data-method]")].map((group) => [group.dataset.method, group]));
  const points = (group) => group.dataset.points.split(" ").map((point) => point.split(":").map(Number));
  const highlight = (method) => {
    plot.classList.toggle("focus", method !== null);
    series.forEach((group, name) => group.classList.toggle("strong", name === method));
  };
  figure.querySelectorAll(".legend button").forEach((button) => {
    const group = series.get(button.dataset.method);
    const show = (shown) => { button.setAttribute("aria-pressed", String(shown)); group.classList.toggle("hidden", !shown); };
    button.addEventListener("click", () => show(button.getAttribute("aria-pressed") !== "true"));
    for (const [enter, leave] of [["mouseenter", "mouseleave"], ["focus", "blur"]]) {
      button.addEventListener(enter, () => highlight(button.dataset.method));
      button.addEventListener(leave, () => highlight(null));
    }
  });
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const visible = [...series].filter(([, group]) => !group.classList.contains("hidden"));
    if (!visible.length) return;
    const nearest = (group) => points(group).reduce((a, b) => (Math.abs(a[0] - x) <= Math.abs(b[0] - x) ? a : b));
    const rows = visible.map(([name, group]) => [name, nearest(group)]).sort((a, b) => b[1][2] - a[1][2]);
    const place = rows[0][1][0];
    cursor.setAttribute("x1", place); cursor.setAttribute("x2", place); cursor.style.visibility = "visible";
    const head = make("b", { textContent: `${Math.round(100 * rows[0][1][1])} % ${figure.dataset.of}` });
    const cells = rows.map(([name, [, , mean, half]]) => make("tr", {}, make("td", { textContent: name }), make("td", { textContent: `${mean.toFixed(3)} ± ${half.toFixed(3)}` })));
    readout.replaceChildren(head, make("table", {}, make("tbody", {}, ...cells)));
    readout.style.display = "block";
    const right = place < svg.viewBox.baseVal.width / 2;
    readout.style.left = right ? `${place / svg.viewBox.baseVal.width * box.width + 14}px` : "auto";
    readout.style.right = right ? "auto" : `${(1 - place / svg.viewBox.baseVal.width) * box.width + 14}px`;
  });
  svg.addEventListener("mouseleave", () => { readout.style.display = "none"; cursor.style.visibility = "hidden"; });
}

// ---- head map: details of a cell, scores of a role --------------------------------------------------------------

function setUpHeads(table) {
  const detail = find("head-detail"), scores = read("head-scores"), role = find("head-role");
  const cells = [...table.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  cells.flat().forEach((cell) => {
    cell.dataset.roles = cell.textContent;
    for (const event of ["mouseenter", "focus"]) cell.addEventListener(event, () => { detail.textContent = cell.dataset.detail; });
  });
  role.addEventListener("change", () => {
    const grid = scores[role.value];
    table.classList.toggle("scored", Boolean(grid));
    cells.forEach((row, layer) => row.forEach((cell, head) => {
      const score = grid ? grid[layer][head] : null;
      cell.style.setProperty("--share", score ?? 0);
      cell.firstChild.textContent = grid ? (score === null ? "–" : score.toFixed(2)) : cell.dataset.roles;
    }));
  });
}

// ---- one head on one text ----------------------------------------------------------------------------------------

function setUpAttention(data) {
  const [strip, told, text, head] = ["attention", "attention-told", "attention-text", "attention-head"].map(find);
  let query = 1, weights = null, spans = [];
  const pick = (at) => { query = Math.max(0, Math.min(spans.length - 1, at)); draw(); spans[query].focus(); };
  const open = () => {
    const { t: pieces, a } = data.texts[text.value];
    weights = Uint8Array.from(atob(a), (character) => character.charCodeAt(0));
    spans = pieces.map((piece, at) => {
      const span = make("span", { className: "token", textContent: piece.trim(), tabIndex: -1 });
      span.setAttribute("role", "option");
      span.addEventListener("click", () => pick(at));
      span.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step) { event.preventDefault(); pick(at + step); }
      });
      return span;
    });
    strip.replaceChildren(...spans.flatMap((span, at) => (/^\s/.test(pieces[at]) && at ? [" ", span] : [span])));
    query = Math.min(query, spans.length - 1);
    draw();
  };
  const draw = () => {
    const n = spans.length, [layer, number] = head.value.split(".").map(Number);
    const start = ((layer * data.heads + number) * n + query) * n, row = weights.subarray(start, start + n), top = Math.max(...row) || 1;
    spans.forEach((span, at) => {
      span.className = `token${row[at] >= 0.03 * top ? " for" : ""}${at === query ? " gold" : ""}`;
      span.style.setProperty("--share", (row[at] / top).toFixed(3));
      span.dataset.score = (row[at] / data.levels).toFixed(2).replace(/^0/, "");
      span.tabIndex = at === query ? 0 : -1;
      span.setAttribute("aria-selected", String(at === query));
    });
    const order = [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, 3);
    told.textContent = `Head ${head.value}: “${spans[query].textContent}” (outlined) attends to ${order.map((at) => `“${spans[at].textContent}” ${(row[at] / data.levels).toFixed(2)}`).join(", ")}.`;
  };
  text.addEventListener("change", open);
  head.addEventListener("change", draw);
  const cells = find("heads") ? [...find("heads").tBodies[0].rows].map((row) => [...row.cells].slice(1)) : [];
  cells.forEach((row, layer) => row.forEach((cell, number) => {
    const choose = () => { head.value = `${layer}.${number}`; draw(); };
    cell.addEventListener("click", choose);
    cell.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(); });
  }));
  open();
}

// ---- texts ------------------------------------------------------------------------------------------------------

class Texts {
  constructor(data) {
    Object.assign(this, data);
    const bytes = Uint8Array.from(atob(data.base64), (character) => character.charCodeAt(0));
    this.packed = new Int16Array(bytes.buffer);
    this.starts = []; this.total = 0;
    for (const item of this.items) { this.starts.push(this.total); this.total += item.t.length; }
  }

  scores(method, index) {
    const start = method * this.total + this.starts[index];
    const scale = this.scales[method * this.items.length + index] / 32767;
    const packed = this.packed.subarray(start, start + this.items[index].t.length);
    return packed[0] === -32768 ? null : Float64Array.from(packed, (score) => score * scale);
  }

  order(method, kind, words) {
    const value = (index) => this.values[method][index] ?? null, sign = (kind === "best") === this.higher ? -1 : 1;
    let indexes = this.items.map((_, index) => index);
    if (words) indexes = indexes.filter((index) => this.items[index].t.join("").toLowerCase().includes(words.toLowerCase()));
    if (kind === "wrong") indexes = indexes.filter((index) => this.correct(this.items[index]) === false);
    if (kind === "best" || kind === "worst") {
      indexes.sort((a, b) => (value(a) === null) - (value(b) === null) || sign * (value(a) - value(b)));
    }
    return indexes;
  }

  correct(item) {
    if (item.g) return item.p === item.g[0] && item.e === item.g[1];
    return item.l === undefined || item.p === undefined ? null : item.l === item.p;
  }

  label(index) { return this.labels[index] ?? String(index); }
}

// The largest score a text's colours are measured by: of its words, or of all its tokens.
function largest(item, scores, all) {
  let top = 0;
  scores.forEach((score, i) => { if (all || item.k[i] !== "s") top = Math.max(top, Math.abs(score)); });
  return top || Math.max(...scores.map(Math.abs)) || 1;
}

function token(item, scores, top, i) {
  const piece = item.t[i], word = piece.trimStart(), score = scores[i], share = Math.min(1, Math.abs(score) / top);
  const names = ["token"];
  if (share >= 0.03) names.push(score > 0 ? "for" : "against");
  if (item.k[i] === "s") names.push("special");
  if (item.j[i] === "1") names.push("joined");
  if (item.g && i >= item.g[0] && i <= item.g[1]) names.push("gold");
  if (item.r && item.r[i] === "1") names.push("marked");
  const element = make("span", { className: names.join(" "), textContent: word, title: `${word}  ${signed(score)}`, dataset: { score: signed(score) } });
  element.style.setProperty("--share", share.toFixed(3));
  return [piece.slice(0, piece.length - word.length), element];
}

function line(item, scores, all) {
  if (scores === null) return make("p", { className: "hint", textContent: "no defined scores" });
  const top = largest(item, scores, all), first = make("span"), second = make("span", { className: "second" });
  item.t.forEach((_, i) => (item.b !== undefined && i >= item.b ? second : first).append(...token(item, scores, top, i)));
  return make("p", { className: "text" }, first, item.b === undefined ? null : second);
}

// Words with the sums of their pieces' scores; special tokens are left out.
function wordScores(item, scores) {
  const words = [];
  item.t.forEach((piece, i) => {
    if (item.k[i] === "s") return;
    if (item.j[i] === "1" && words.length) { const last = words.at(-1); last.text += piece; last.score += scores[i]; }
    else words.push({ text: piece.trim(), score: scores[i] });
  });
  return words;
}

// The strongest words in words, for readers who do not see the colours.
function summary(item, scores) {
  if (scores === null) return null;
  const order = wordScores(item, scores).sort((a, b) => b.score - a.score);
  const named = ({ text, score }) => `${text} ${signed(score)}`;
  const supports = order.slice(0, 3).filter(({ score }) => score > 0).map(named);
  const against = order.reverse().slice(0, 2).filter(({ score }) => score < 0).map(named);
  const parts = [supports.length ? `for: ${supports.join(", ")}` : "", against.length ? `against: ${against.join(", ")}` : ""];
  return make("small", { textContent: parts.filter(Boolean).join("  ·  ") });
}

function factsOf(texts, method, index) {
  const item = texts.items[index], facts = [make("b", { textContent: `#${item.i}` })], correct = texts.correct(item);
  const add = (text, className = "") => facts.push(make("span", { textContent: text, className }));
  const chance = (item.q ?? []).map((p) => p.toFixed(2));
  if (item.g) add(`start and end predicted with ${chance.join(" and ")}`);
  else if (item.p !== undefined) add(`predicted ${texts.label(item.p)}${chance[item.p] ? ` ${chance[item.p]}` : ""}`);
  if (item.y !== undefined) add(`label ${item.y}`);
  if (correct !== null) add(correct ? "✓ correct" : "✗ wrong", correct ? "" : "wrong");
  if (!item.g && item.x !== undefined && item.x !== item.p) add(`explained: ${texts.label(item.x)}`);
  const value = texts.values[method][index];
  if (value !== null && value !== undefined) add(`${texts.title} ${minus(value.toFixed(3))}`);
  if (item.c) add(`${item.c} of ${item.c + item.t.length} tokens cut off`);
  return facts;
}

function card(texts, method, index, all) {
  const item = texts.items[index], scores = texts.scores(method, index);
  const button = make("button", { type: "button", textContent: "all methods" });
  const holder = make("div", { className: "all", hidden: true });
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    holder.hidden = !holder.hidden;
    button.setAttribute("aria-expanded", String(!holder.hidden));
    const rows = texts.methods.flatMap((name, m) => [make("h4", { textContent: name }), line(item, texts.scores(m, index), all)]);
    holder.replaceChildren(...(holder.hidden ? [] : rows));
  });
  const facts = make("div", { className: "facts" }, ...factsOf(texts, method, index), button);
  return make("li", { className: "card" }, facts, line(item, scores, all), summary(item, scores), holder);
}

function setUpTexts(data) {
  const texts = new Texts(data), cards = find("cards"), more = find("text-more"), count = find("text-count");
  const [method, order, words, all, numbers] = ["method", "order", "find", "all", "numbers"].map((name) => find(`text-${name}`));
  let shown = data.page;
  const draw = () => {
    const indexes = texts.order(Number(method.value), order.value, words.value.trim());
    cards.replaceChildren(...indexes.slice(0, shown).map((index) => card(texts, Number(method.value), index, all.checked)));
    cards.classList.toggle("numbers", numbers.checked);
    more.hidden = indexes.length <= shown;
    count.textContent = `${Math.min(shown, indexes.length)} of ${indexes.length} texts`;
  };
  const restart = () => { shown = data.page; draw(); };
  for (const control of [method, order, all, numbers]) control.addEventListener("change", restart);
  words.addEventListener("input", restart);
  more.addEventListener("click", () => { shown += data.page; draw(); });
  draw();
}

const board = find("board"), heads = find("heads"), texts = read("text-data"), attention = read("attention-data");
if (board) setUpBoard(board);
if (heads) setUpHeads(heads);
if (attention) setUpAttention(attention);
if (texts) setUpTexts(texts);
document.querySelectorAll("figure[data-chart]").forEach(setUpChart);
