// Lists the clips of a chosen cell of the confusion matrix, some at a time.
"use strict";

const STEP = 20;
const data = JSON.parse(document.getElementById("cells-data").textContent);
const buttons = [...document.querySelectorAll("button[data-cell]")];
const region = document.getElementById("clips");
const heading = document.getElementById("clips-heading");
const summary = document.getElementById("clips-summary");
const list = document.getElementById("clips-list");
const more = document.getElementById("clips-more");
const back = document.getElementById("clips-back");
let chosen = null;

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

function element(name, text = "", attributes = {}) {
  const node = document.createElement(name);
  node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// One row per [name, share, text]: the name, a bar as long as the share, and the text.
function bars(title, rows, marked) {
  const table = element("table", "", { class: "bars" });
  table.append(element("caption", title));
  const body = table.createTBody();
  rows.forEach(([name, share, text], i) => {
    const row = body.insertRow();
    if (i === marked) row.className = "marked";
    row.append(element("th", name, { scope: "row" }));
    const bar = element("div", "", { class: "bar" });
    bar.style.width = `${100 * share}%`;
    row.insertCell().append(bar);
    row.cells[1].className = "track";
    row.append(element("td", text, { class: "number" }));
  });
  return table;
}

function card(cell, [name, probabilities, prediction, picture, alt]) {
  const clip = data.clips[name];
  const item = element("li", "", { class: "card clip" });
  const text = element("div");
  text.append(element("h3", clip.id));
  const facts = [["speaker", clip.speaker], ...Object.entries(clip.attributes)];
  text.append(element("p", facts.map(([key, value]) => `${key} ${value}`).join(" · "), { class: "soft" }));
  text.append(element("p", prediction));
  if (clip.player) {
    const player = element("audio", "", { controls: "", preload: "metadata", src: clip.player });
    player.setAttribute("aria-label", `Play ${clip.id}`);
    text.append(player);
  } else if (clip.failure) {
    text.append(element("p", `No audio: ${clip.failure}`, { class: "wrong" }));
  }
  const means = probabilities.map((p, i) => [data.labels[i], p, percent(p)]);
  text.append(bars(data.mean, means, cell.predicted));
  if (clip.votes.length) {
    const total = clip.votes.reduce((a, b) => a + b, 0);
    const votes = clip.votes.map((n, i) => [data.labels[i], total ? n / total : 0, String(n)]);
    text.append(bars(`Listeners' votes, ${total} in all`, votes, cell.true));
  }
  item.append(text);
  if (picture) item.append(element("img", "", { src: picture, alt, loading: "lazy" }));
  return item;
}

function extend(cell) {
  const start = list.children.length;
  const added = cell.listed.slice(start, start + STEP).map((entry) => card(cell, entry));
  list.append(...added);
  const left = cell.listed.length - list.children.length;
  more.hidden = left === 0;
  more.textContent = `${Math.min(left, STEP)} more of ${left}`;
  return added[0];
}

function open(button) {
  close();
  chosen = button;
  button.setAttribute("aria-pressed", "true");
  const cell = data.cells[button.dataset.cell];
  heading.textContent = `${data.labels[cell.true]} predicted as ${data.labels[cell.predicted]}`;
  if (cell.true === cell.predicted) heading.textContent = `${data.labels[cell.true]}, predicted correctly`;
  const shown = cell.listed.length;
  summary.textContent =
    `${count(cell.n_predictions, "prediction")} of ${count(cell.n_clips, "clip")}, most confident first.` +
    (shown < cell.n_clips
      ? ` Listed: ${shown} of ${count(cell.n_clips, "clip")}; predictions.csv has all.`
      : "");
  extend(cell);
  region.hidden = false;
  heading.focus();
}

function close() {
  if (!chosen) return;
  chosen.setAttribute("aria-pressed", "false");
  chosen = null;
  region.hidden = true;
  list.replaceChildren();
}

function goBack() {
  const button = chosen;
  close();
  if (button) button.focus();
}

for (const button of buttons) button.addEventListener("click", () => open(button));
more.addEventListener("click", () => {
  const first = extend(data.cells[chosen.dataset.cell]).querySelector("h3");
  first.tabIndex = -1;
  first.focus();
});
back.addEventListener("click", goBack);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") goBack();
});
