// All rows of one head at once, on a canvas that holds what is seen and no more: texts of 500 tokens stay smooth.

import { arrows, find, fixed } from "./dom.js";
import { on, set, state } from "./state.js";
import { inkOf, paint } from "./thumbs.js";

const LABELS = 84, READABLE = 11, CLOSEST = 28; // pixels: room for names, cells that have them, the largest cells
const view = { cell: 1, x: 0, y: 0, at: [0, 0], picture: null, of: null };
let drag = null;

const canvas = () => find("matrix");
const room = () => (view.cell >= READABLE ? LABELS : 0);

// The whole matrix at one pixel a cell, made once for each head, text and shade.
function pictured() {
  const { weights, n } = state.attention, shade = find("shade").value, key = `${shade} ${inkOf().join()}`;
  if (view.picture && view.of === weights && view.key === key) return view.picture;
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [n || 1, n || 1];
  const top = weights.reduce((a, b) => Math.max(a, b), 0) || 1;
  if (n) paint(picture.getContext("2d"), weights, n, shade === "root" ? (value) => Math.sqrt(value / top) : (value) => value / top);
  Object.assign(view, { picture, of: weights, key });
  return picture;
}

function fit() {
  const side = Math.min(canvas().clientWidth, canvas().clientHeight), n = Math.max(1, state.attention.n);
  const named = (side - LABELS) / n, smallest = Math.min(CLOSEST, named >= READABLE ? named : Math.min(side / n, READABLE - 0.1));
  view.cell = smallest * (CLOSEST / smallest) ** (Number(find("zoom").value) / 100);
}

function bounds() {
  const { n } = state.attention, [width, height] = [canvas().clientWidth - room(), canvas().clientHeight - room()];
  view.x = Math.max(0, Math.min(view.x, n - width / view.cell));
  view.y = Math.max(0, Math.min(view.y, n - height / view.cell));
}

export function drawMatrix() {
  const place = canvas();
  if (!state.attention || !place.clientWidth) return;
  fit();
  bounds();
  const ratio = window.devicePixelRatio || 1, [width, height] = [place.clientWidth, place.clientHeight];
  [place.width, place.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = place.getContext("2d"), margin = room(), { n } = state.attention;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  const across = Math.min(n - view.x, (width - margin) / view.cell), down = Math.min(n - view.y, (height - margin) / view.cell);
  if (across > 0 && down > 0) context.drawImage(pictured(), view.x, view.y, across, down, margin, margin, across * view.cell, down * view.cell);
  mark(context, margin, across, down);
  if (margin) names(context, margin, across, down);
}

function mark(context, margin, across, down) {
  const style = getComputedStyle(document.documentElement), cell = view.cell;
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.5;
  const row = (state.query - view.y) * cell + margin;
  if (row >= margin - cell) context.strokeRect(margin, row, across * cell, cell);
  const [x, y] = [(view.at[1] - view.x) * cell + margin, (view.at[0] - view.y) * cell + margin];
  if (x >= margin - cell && y >= margin - cell) context.strokeRect(x, y, cell, cell);
}

function names(context, margin, across, down) {
  const { units } = state.attention, first = [Math.floor(view.y), Math.floor(view.x)];
  context.fillStyle = getComputedStyle(document.body).color;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let at = first[0]; at < view.y + down && at < units.length; at += 1) {
    const y = margin + (at + 0.5 - view.y) * view.cell;
    if (y > margin) context.fillText(short(units[at].text), margin - 6, y);
  }
  context.textAlign = "left";
  for (let at = first[1]; at < view.x + across && at < units.length; at += 1) {
    const x = margin + (at + 0.5 - view.x) * view.cell;
    if (x < margin) continue;
    context.save();
    context.translate(x, margin - 6);
    context.rotate(-Math.PI / 3);
    context.fillText(short(units[at].text), 0, 0);
    context.restore();
  }
}

const short = (text) => (text.trim().length > 11 ? `${text.trim().slice(0, 10)}…` : text.trim());

function cellAt(event) {
  const box = canvas().getBoundingClientRect(), margin = room();
  const [x, y] = [event.clientX - box.left - margin, event.clientY - box.top - margin];
  const [key, query] = [Math.floor(x / view.cell + view.x), Math.floor(y / view.cell + view.y)];
  return x >= 0 && y >= 0 && key < state.attention.n && query < state.attention.n ? [query, key] : null;
}

function tell([query, key]) {
  const { units, weights, n } = state.attention;
  find("cell").textContent = `“${units[query].text.trim()}” (${query}) attends to “${units[key].text.trim()}” (${key}): ${fixed(weights[query * n + key])}`;
}

function move(dx, dy) {
  const { n } = state.attention;
  view.at = [Math.max(0, Math.min(n - 1, view.at[0] + dy)), Math.max(0, Math.min(n - 1, view.at[1] + dx))];
  follow();
  tell(view.at);
  drawMatrix();
}

// The marked cell stays in sight.
function follow() {
  const down = (canvas().clientHeight - room()) / view.cell - 1, across = (canvas().clientWidth - room()) / view.cell - 1;
  view.y = Math.max(view.at[0] - down, Math.min(view.y, view.at[0]));
  view.x = Math.max(view.at[1] - across, Math.min(view.x, view.at[1]));
}

function zoom(by) {
  const slider = find("zoom");
  slider.value = String(Math.max(0, Math.min(100, Number(slider.value) + by)));
  zoomed();
}

function zoomed() {
  const before = view.cell, middle = (canvas().clientWidth - room()) / 2;
  fit();
  view.x += middle / before - middle / view.cell;
  view.y += middle / before - middle / view.cell;
  drawMatrix();
}

export function setUpMatrix() {
  const place = canvas();
  find("zoom").addEventListener("input", zoomed);
  find("shade").addEventListener("change", drawMatrix);
  place.addEventListener("keydown", (event) => {
    if (!state.attention || arrows(event, move)) return;
    if (event.key === "+" || event.key === "=") zoom(10);
    if (event.key === "-") zoom(-10);
    if (event.key === "Enter") set({ query: view.at[0] });
  });
  place.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, moved: false }; place.setPointerCapture(event.pointerId); });
  place.addEventListener("pointermove", (event) => {
    if (!state.attention) return;
    if (!drag) { const at = cellAt(event); if (at) tell(at); return; }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.abs(dx) + Math.abs(dy) < 4) return;
    view.x -= dx / view.cell;
    view.y -= dy / view.cell;
    Object.assign(drag, { x: event.clientX, y: event.clientY, moved: true });
    drawMatrix();
  });
  place.addEventListener("pointerup", (event) => {
    const at = state.attention && !drag?.moved ? cellAt(event) : null;
    drag = null;
    if (at) { view.at = at; tell(at); set({ query: at[0] }); }
  });
  on(["query"], () => { if (!state.attention) return; view.at = [state.query, view.at[1]]; bounds(); follow(); });
  on(["attention"], () => { Object.assign(view, { x: 0, y: 0, at: [state.query, 0] }); });
  new ResizeObserver(() => drawMatrix()).observe(place);
}
