// The sample of clips and the table of all of them: filtered, sorted, and made some rows at a time.
"use strict";

const ROWS_A_PAGE = 100;
const data = JSON.parse(document.getElementById("inspection").textContent);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const natural = new Intl.Collator("en", { numeric: true });

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function field(title, control) {
  const label = element("label", title);
  label.append(control);
  return label;
}

// [value, shown] pairs → a select.
function choice(options) {
  const select = element("select");
  for (const [value, shown] of options) select.append(element("option", shown, { value }));
  return select;
}

function emotionsAndSpeakers(items) {
  const speakers = [...new Set(items.map((item) => item.speaker))].sort(natural.compare);
  return [
    choice([["", "all"], ...data.labels.map((label) => [`=${label}`, label])]),
    choice([["", "all"], ...speakers.map((speaker) => [`=${speaker}`, speaker])]),
  ];
}

const fits = (select, value) => !select.value || select.value === `=${value}`;

function fieldsetOf(form, ...fields) {
  const set = element("fieldset");
  set.append(...fields);
  form.append(set);
  form.addEventListener("submit", (event) => event.preventDefault());
}

// --- the sample ---------------------------------------------------------------------------------

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
      .filter(([clip]) => fits(emotion, clip.emotion) && fits(speaker, clip.speaker))
      .sort(([a], [b]) => natural.compare(a[order.value], b[order.value])
        || natural.compare(a[other], b[other]) || natural.compare(a.id, b.id));
    list.replaceChildren(...shown.map(([, made]) => made));
    document.getElementById("sample-count").textContent = `${count(shown.length, "clip")} shown.`;
  };
  for (const select of [emotion, speaker, order]) select.addEventListener("change", show);
  fieldsetOf(document.getElementById("sample-filter"),
    field("emotion", emotion), field("speaker", speaker), field("sort by", order));
  show();
}

// --- the table ----------------------------------------------------------------------------------

function table() {
  const nText = data.columns.length - data.digits.length;
  const made = document.getElementById("clips");
  const body = made.createTBody();
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
    const shown = rows.slice(start, start + ROWS_A_PAGE).map((row) => {
      const line = element("tr");
      row.forEach((_, i) => line.append(i
        ? element("td", cell(row, i), i < nText ? {} : { class: "number" })
        : element("th", cell(row, i), { scope: "row" })));
      return line;
    });
    body.replaceChildren(...shown);
    const end = Math.min(start + ROWS_A_PAGE, rows.length);
    document.getElementById("clips-count").textContent = rows.length
      ? `${count(rows.length, "clip")}; ${(start + 1).toLocaleString("en")} to ${end.toLocaleString("en")} shown.`
      : "No clip fits.";
    previous.disabled = start === 0;
    next.disabled = end >= rows.length;
  };

  const compare = (a, b) => {
    const [x, y] = [a[sorted], b[sorted]];
    if (x === null || y === null) return (x === null) - (y === null); // last, either way
    return (upward ? 1 : -1) * (sorted < nText ? natural.compare(x, y) : x - y);
  };

  const update = () => {
    const wanted = text.value.trim().toLowerCase();
    rows = data.rows.filter((row) => fits(emotion, row[1]) && fits(speaker, row[2])
      && (!wanted || row.slice(0, nText).some((value) => value.toLowerCase().includes(wanted))));
    rows.sort((a, b) => compare(a, b) || natural.compare(a[0], b[0]));
    start = 0;
    draw();
  };

  const head = made.createTHead().insertRow();
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
    made.scrollIntoView({ block: "start" });
  };
  previous.addEventListener("click", () => turn(-ROWS_A_PAGE));
  next.addEventListener("click", () => turn(ROWS_A_PAGE));
  emotion.addEventListener("change", update);
  speaker.addEventListener("change", update);
  text.addEventListener("input", update);
  fieldsetOf(document.getElementById("clips-filter"),
    field("emotion", emotion), field("speaker", speaker), field("text", text));
  update();
}

sample();
table();
