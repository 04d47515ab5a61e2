// The sample and the table of all clips: filtered and sorted; the table is built page by page.
"use strict";

const ROWS_PER_PAGE = 100;
const data = JSON.parse(document.getElementById("inspection").textContent);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const natural = new Intl.Collator("en", { numeric: true });

function element(name, text = "", attributes = {}) {
  const node = document.createElement(name);
  node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function field(title, control) {
  const label = element("label", title);
  label.append(control);
  return label;
}

// A select of [value, text] pairs.
function choice(options) {
  const select = element("select");
  for (const [value, text] of options) select.append(element("option", text, { value }));
  return select;
}

function emotionsAndSpeakers(items) {
  const speakers = [...new Set(items.map((item) => item.speaker))].sort(natural.compare);
  return [
    choice([["", "all"], ...data.labels.map((label) => [`=${label}`, label])]),
    choice([["", "all"], ...speakers.map((speaker) => [`=${speaker}`, speaker])]),
  ];
}

const matches = (select, value) => !select.value || select.value === `=${value}`;

function addFieldset(form, ...fields) {
  const set = element("fieldset");
  set.append(...fields);
  form.append(set);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function card(clip) {
  const item = element("li", "", { class: "card" });
  item.append(element("h3", `${clip.emotion}: ${clip.id}`));
  const facts = [["speaker", clip.speaker], ...Object.entries(clip.attributes)];
  const known = facts.filter(([, value]) => value).map(([key, value]) => `${key} ${value}`);
  const votes = clip.votes.map((n, i) => [n, data.voted[i]]).filter(([n]) => n);
  item.append(element("p", [...known, `${clip.seconds.toFixed(2)} s`].join(" · "), { class: "soft" }));
  if (votes.length) {
    const heard = votes.sort((a, b) => b[0] - a[0]).map(([n, label]) => `${label} ${n}`).join(", ");
    item.append(element("p", `Listeners heard: ${heard}.`, { class: "soft" }));
  }
  const views = element("div", "", { class: "views" });
  for (const view of Object.values(clip.views)) {
    const figure = element("figure");
    figure.append(element("figcaption", view.what));
    figure.append(element("img", "", {
      src: view.picture,
      loading: "lazy",
      alt: `Waveform, log-mel and MFCC of ${clip.id}, ${view.what}.`,
    }));
    figure.append(element("audio", "", {
      controls: "", preload: "metadata", src: view.audio, "aria-label": `Play ${clip.id}, ${view.what}`,
    }));
    views.append(figure);
  }
  item.append(views);
  return item;
}

function sample() {
  const list = document.getElementById("sample");
  const cards = data.sample.map((clip) => [clip, card(clip)]);
  const [emotion, speaker] = emotionsAndSpeakers(data.sample);
  const order = choice([["emotion", "emotion"], ["speaker", "speaker"]]);
  const show = () => {
    const other = order.value === "emotion" ? "speaker" : "emotion";
    const shown = cards
      .filter(([clip]) => matches(emotion, clip.emotion) && matches(speaker, clip.speaker))
      .sort(([a], [b]) => natural.compare(a[order.value], b[order.value])
        || natural.compare(a[other], b[other]) || natural.compare(a.id, b.id));
    list.replaceChildren(...shown.map(([, item]) => item));
    document.getElementById("sample-count").textContent = `${count(shown.length, "clip")} shown.`;
  };
  for (const select of [emotion, speaker, order]) select.addEventListener("change", show);
  addFieldset(document.getElementById("sample-filter"),
    field("emotion", emotion), field("speaker", speaker), field("sort by", order));
  show();
}

function table() {
  const nText = data.columns.length - data.digits.length;
  const clips = document.getElementById("clips");
  const body = clips.createTBody();
  const [previous, next] = ["clips-previous", "clips-next"].map((id) => document.getElementById(id));
  const [emotion, speaker] = emotionsAndSpeakers(
    data.rows.map((row) => ({ emotion: row[1], speaker: row[2] })));
  const text = element("input", "", { type: "search" });
  let rows = data.rows, start = 0, sorted = 0, upward = true;

  const cell = (row, i) => {
    if (i < nText) return row[i];
    const format = { minimumFractionDigits: data.digits[i - nText], maximumFractionDigits: data.digits[i - nText] };
    return row[i] === null ? "not decoded" : row[i].toLocaleString("en", format);
  };

  const draw = () => {
    const shown = rows.slice(start, start + ROWS_PER_PAGE).map((row) => {
      const line = element("tr");
      row.forEach((_, i) => line.append(i
        ? element("td", cell(row, i), i < nText ? {} : { class: "number" })
        : element("th", cell(row, i), { scope: "row" })));
      return line;
    });
    body.replaceChildren(...shown);
    const end = Math.min(start + ROWS_PER_PAGE, rows.length);
    document.getElementById("clips-count").textContent = rows.length
      ? `${count(rows.length, "clip")}; ${(start + 1).toLocaleString("en")} to ${end.toLocaleString("en")} shown.`
      : "No matching clip.";
    previous.disabled = start === 0;
    next.disabled = end >= rows.length;
  };

  const compare = (a, b) => {
    const [x, y] = [a[sorted], b[sorted]];
    if (x === null || y === null) return (x === null) - (y === null); // last in both directions
    return (upward ? 1 : -1) * (sorted < nText ? natural.compare(x, y) : x - y);
  };

  const update = () => {
    const query = text.value.trim().toLowerCase();
    rows = data.rows.filter((row) => matches(emotion, row[1]) && matches(speaker, row[2])
      && (!query || row.slice(0, nText).some((value) => value.toLowerCase().includes(query))));
    rows.sort((a, b) => compare(a, b) || natural.compare(a[0], b[0]));
    start = 0;
    draw();
  };

  const head = clips.createTHead().insertRow();
  const heads = data.columns.map(([title, unit], i) => {
    const th = element("th", "", { scope: "col", class: i < nText ? "" : "number" });
    const button = element("button", unit ? `${title}, ${unit}` : title, { type: "button", class: "sort" });
    button.addEventListener("click", () => {
      upward = sorted === i ? !upward : true;
      sorted = i;
      heads.forEach((other, j) => {
        if (j === i) other.setAttribute("aria-sort", upward ? "ascending" : "descending");
        else other.removeAttribute("aria-sort");
      });
      update();
    });
    th.append(button);
    head.append(th);
    return th;
  });
  heads[0].setAttribute("aria-sort", "ascending");

  const turn = (by) => {
    start += by;
    draw();
    clips.scrollIntoView({ block: "start" });
  };
  previous.addEventListener("click", () => turn(-ROWS_PER_PAGE));
  next.addEventListener("click", () => turn(ROWS_PER_PAGE));
  emotion.addEventListener("change", update);
  speaker.addEventListener("change", update);
  text.addEventListener("input", update);
  addFieldset(document.getElementById("clips-filter"),
    field("emotion", emotion), field("speaker", speaker), field("text", text));
  update();
}

sample();
table();
