// Puts the page together: what the run is, then its heads, then all of its texts.

import { complain, get, numbers, stream } from "./api.js";
import { setUpChange } from "./change.js";
import { find } from "./dom.js";
import { setUpKeep } from "./keep.js";
import { setUpMap } from "./map.js";
import { setUpMatrix } from "./matrix.js";
import { setUpPattern } from "./pattern.js";
import { on, set, state } from "./state.js";
import { setUpText } from "./text.js";

async function survey() {
  const facts = find("facts"), told = facts.textContent;
  const found = await stream("/api/survey", {}, (done, total) => { facts.textContent = `${told} · reading ${done} of ${total}`; });
  facts.textContent = told;
  set({ survey: { ...found, maps: await numbers("/api/maps") } });
}

// What a person looks at comes before what is read for later.
const firstLook = () => new Promise((done) => { on(["attention"], done); if (state.attention) done(); });

async function start() {
  const run = await get("/api/run");
  document.title = `${run.name} · Headlight explorer`;
  find("name").textContent = run.name;
  const texts = run.of && run.of !== run.texts.length ? `${run.texts.length} of ${run.of} texts` : `${run.texts.length} texts`;
  find("facts").textContent = `${run.model} · ${run.data} · ${texts} · ${run.layers} layers of ${run.heads} heads`;
  set({ run, metrics: run.metrics, document: 0 });
  await setUpKeep();
  await firstLook();
  await survey();
  document.body.dataset.ready = "yes";
}

setUpMap();
setUpMatrix();
setUpText();
setUpPattern();
setUpChange();
start().catch(complain);
