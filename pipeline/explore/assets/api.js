// Requests to the server this page came from.

import { find } from "./dom.js";

export class Refused extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

async function checked(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(told.error ?? `the server answered ${response.status}`, response.status);
}

const body = (value, signal) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value), signal });

export const get = async (path) => (await checked(await fetch(path))).json();
export const post = async (path, value, signal) => (await checked(await fetch(path, body(value, signal)))).json();

// Lines of JSON as they come: {done, total}, and in the last one {result}, which is returned.
export async function stream(path, value, progress, signal) {
  const reader = (await checked(await fetch(path, body(value, signal)))).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", result = null;
  for (;;) {
    const { done, value: part } = await reader.read();
    const lines = (rest + (part ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean).map(JSON.parse)) {
      if (line.error) throw new Refused(line.error, 400);
      if (line.result !== undefined) result = line.result;
      progress(line.done, line.total);
    }
    if (done) return result;
  }
}

// float16 -> float32, all 65,536 of them, made once.
const halves = (() => {
  const made = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits += 1) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    made[bits] = sign * (exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15));
  }
  return made;
})();

export async function numbers(path, signal) {
  const packed = new Uint16Array(await (await checked(await fetch(path, { signal }))).arrayBuffer());
  return Float32Array.from(packed, (bits) => halves[bits]);
}

// Errors that nobody else shows are shown at the top; what was called off is none.
export function complain(error) {
  if (error.name === "AbortError") return;
  const place = find("trouble");
  place.textContent = error.message;
  place.hidden = false;
}

export const quiet = () => { find("trouble").hidden = true; };

// Only the latest call of its kind matters: the one before is called off.
export function latest() {
  let controller = null;
  return () => {
    controller?.abort();
    controller = new AbortController();
    return controller.signal;
  };
}
