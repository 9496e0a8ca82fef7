// What the page is about. Parts of the page watch the keys that they show.

const values = {
  run: null, metrics: [], survey: null, metric: null, head: { layer: 0, head: 0 },
  document: null, text: null, textMaps: null, attention: null, query: 0, predicate: null, holds: null, relevance: null,
  gates: new Map(), inPlace: new Map(), kept: new Map(), decisions: [],
};
const watchers = [];
let queue = null;

export const state = new Proxy(values, { set() { throw new Error("use set()"); } });

export function on(keys, watch) { watchers.push([keys, watch]); }

// Watchers run once for all keys that were set together, after whoever set them is done.
export function set(changes) {
  Object.assign(values, changes);
  if (queue === null) { queue = new Set(); queueMicrotask(flush); }
  Object.keys(changes).forEach((key) => queue.add(key));
}

function flush() {
  const changed = queue;
  queue = null;
  for (const [keys, watch] of watchers) if (keys.some((key) => changed.has(key))) watch();
}
