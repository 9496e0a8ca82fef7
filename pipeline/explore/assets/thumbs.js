// Pictures of heads over all texts: the mean map, and how far from the query they look.

import { fixed, make, share } from "./dom.js";
import { state } from "./state.js";

const SIZE = 64;

export function drawMap({ size, maps }, layer, head) {
  const start = (layer * state.run.heads + head) * size * size;
  const own = maps.subarray(start, start + size * size), top = own.reduce((a, b) => Math.max(a, b), 0) || 1;
  const canvas = make("canvas", { width: size, height: size, className: "thumb" });
  paint(canvas.getContext("2d"), own, size, (value) => Math.sqrt(value / top));
  return canvas;
}

// Shares 0 to 1 as ink on transparent ground, which works on light and dark paper alike. A word of memory a pixel.
export function paint(context, values, size, shareOf) {
  const picture = context.createImageData(size, size), [red, green, blue] = inkOf();
  const pixels = new Uint32Array(picture.data.buffer), ink = red | (green << 8) | (blue << 16);
  for (let i = 0; i < values.length; i += 1) pixels[i] = ink | (Math.round(255 * Math.min(1, shareOf(values[i]))) << 24);
  context.putImageData(picture, 0, 0);
}

export function inkOf() {
  return getComputedStyle(document.documentElement).getPropertyValue("--for").trim().split(/\s+/).map(Number);
}

export function drawOffsets(layer, head) {
  const values = state.survey.offsets.values[layer][head], canvas = make("canvas", { width: SIZE, height: SIZE, className: "thumb" });
  const context = canvas.getContext("2d"), width = SIZE / values.length, top = Math.max(...values, 0.05), ink = inkOf();
  values.forEach((value, at) => {
    const middle = at === (values.length - 1) / 2, height = (SIZE * value) / top;
    context.fillStyle = `rgb(${ink.join(" ")} / ${middle ? 1 : 0.62})`;
    context.fillRect(at * width, SIZE - height, Math.max(1, width - 0.6), height);
  });
  return canvas;
}

// The selected head's offsets with their numbers.
export function profile(layer, head) {
  const { reach, values } = state.survey.offsets, own = values[layer][head], top = Math.max(...own, 0.001);
  const bars = own.map((value, at) => {
    const offset = at - reach, name = `${offset > 0 ? "+" : ""}${String(offset).replace("-", "−")}`;
    const bar = make("li", { title: `offset ${name}: ${fixed(value)}`, className: offset === 0 ? "self" : "" }, make("i"), make("span", { textContent: Math.abs(offset) % 5 && Math.abs(offset) !== 1 ? "" : name }));
    share(bar, value / top);
    return bar;
  });
  const best = own.indexOf(Math.max(...own)) - reach;
  const label = `Offsets of head ${layer}.${head} (key minus query); most at ${String(best).replace("-", "−")}: ${fixed(Math.max(...own))}.`;
  return make("figure", { className: "profile" }, make("ol", { aria: { label } }, bars), make("figcaption", { className: "hint", textContent: label }));
}
