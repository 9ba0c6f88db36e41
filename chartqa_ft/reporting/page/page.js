"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = Object.fromEntries(data.fields.map((name, number) => [name, number]));
  const byId = (id) => document.getElementById(id);
  const AT_ONCE = 48;
  let charts = null;   // parsed when the first picture is needed: it is nearly all of the file
  let shown = data.rows;
  let written = 0;

  function picture(number) {
    if (charts === null) charts = JSON.parse(byId("charts").textContent);
    return charts[number];
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;   // never as HTML
    return made;
  }

  function state(correct) {
    if (correct === null) return "unknown";
    return correct === 1 ? "right" : "wrong";
  }

  function verdictOf(correct) {
    if (correct === null) return "no answer";
    if (correct === 1) return "right";
    return correct > 0 ? `partly right (${Math.round(100 * correct)} %)` : "wrong";
  }

  function line(label, text, strong) {
    const paragraph = element("p");
    paragraph.append(element("span", "meta", `${label}: `), element(strong ? "strong" : "span", "", text || "(empty)"));
    return paragraph;
  }

  const lazy = "IntersectionObserver" in window
    ? new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { load(entry.target); lazy.unobserve(entry.target); }
    }, { rootMargin: "600px" })
    : null;

  function load(image) {
    if (document.readyState === "loading") {   // the charts are the end of the file
      document.addEventListener("DOMContentLoaded", () => load(image));
      return;
    }
    if (!image.src) image.src = `data:image/webp;base64,${picture(Number(image.dataset.chart))}`;
  }

  function card(row) {
    const chart = row[at.chart], size = chart === null ? null : data.sizes[chart];
    const made = element("article", state(row[at.correct]));
    made.id = `row-${row[at.index]}`;
    made.tabIndex = -1;
    if (size) {
      const image = element("img");
      image.width = size[0];
      image.height = size[1];
      image.alt = `chart ${data.names[chart]}`;
      image.dataset.chart = chart;
      if (lazy) lazy.observe(image); else load(image);
      made.append(image);
    }
    made.append(element("p", "question", row[at.question]));
    made.append(line(data.runs.length > 1 ? data.runs[0] : "Prediction", row[at.prediction], true));
    if (row[at.extracted] !== null) made.append(line("Scored", row[at.extracted]));
    if (row[at.answer] !== null) made.append(line("Answer", row[at.answer]));
    const verdict = element("p", "verdict");
    verdict.append(element("strong", "", verdictOf(row[at.correct])), document.createTextNode(`: ${row[at.why]}`));
    made.append(verdict);
    if (data.runs.length > 1) {
      const other = element("div", state(row[at.other_correct]));
      other.append(line(data.runs[1], row[at.other_prediction], true));
      other.append(element("p", "", `${verdictOf(row[at.other_correct])}: ${row[at.other_why]}`));
      made.append(other);
    }
    const facts = [data.names[chart], row[at.source], row[at.question_type], row[at.answer_type]];
    if (state(row[at.correct]) === "wrong") facts.push(row[at.kind]);
    made.append(element("p", "meta", `${row[at.index]} · ${facts.filter(Boolean).join(" · ")}`));
    return made;
  }

  function more(count) {
    const part = document.createDocumentFragment();
    for (const row of shown.slice(written, written + count)) part.append(card(row));
    written = Math.min(shown.length, written + count);
    byId("rows").append(part);
  }

  const FILTERS = ["source", "question_type", "answer_type", "kind", "change"];

  function passes(row, wanted, words) {
    if (wanted.verdict && state(row[at.correct]) !== wanted.verdict) return false;
    for (const name of FILTERS) if (wanted[name] && row[at[name]] !== wanted[name]) return false;
    if (!words.length) return true;
    const text = [row[at.question], row[at.answer], row[at.prediction], row[at.extracted], data.names[row[at.chart]],
      row[at.other_prediction]].filter((value) => value !== null && value !== undefined).join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function apply() {
    const wanted = Object.fromEntries(["verdict", ...FILTERS].map((name) => [name, byId(name).value]));
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = data.rows.filter((row) => passes(row, wanted, words));
    const order = byId("sort").value;
    if (order === "chart") {
      shown = [...shown].sort((a, b) => (a[at.chart] ?? -1) - (b[at.chart] ?? -1));
    } else if (order === "error") {
      const size = (row) => (row[at.error] === null ? -1 : Math.abs(row[at.error]));
      shown = [...shown].sort((a, b) => size(b) - size(a));
    }
    const right = shown.filter((row) => row[at.correct] === 1).length;
    byId("count").textContent = `${shown.length} of ${data.rows.length} examples, ${right} right`;
    byId("rows").replaceChildren();
    written = 0;
    more(AT_ONCE);
    plot();
  }

  // ---------------------------------------------------------------- numeric error
  const SVG = "http://www.w3.org/2000/svg";
  const scale = (value) => Math.sign(value) * Math.log10(1 + Math.abs(value));

  function drawn(tag, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function plot() {
    const points = shown.filter((row) => row[at.numbers] !== null);
    const box = byId("plot");
    if (!points.length) { box.replaceChildren(element("p", "note", "No row here has two numbers.")); return; }
    const values = points.flatMap((row) => row[at.numbers]).map(scale);
    const low = Math.min(0, ...values.slice(0, 1), values.reduce((a, b) => Math.min(a, b)));
    const high = Math.max(low + 1, values.reduce((a, b) => Math.max(a, b)));
    const x = (value) => 50 + 560 * (scale(value) - low) / (high - low);
    const y = (value) => 350 - 330 * (scale(value) - low) / (high - low);
    const svg = drawn("svg", { viewBox: "0 0 640 390", role: "img", "aria-label": "predicted number against answer" });
    svg.append(drawn("path", { class: "axis", d: "M50 20V350H610" }));
    for (const factor of [0.95, 1.05]) {
      const line = [];
      for (let step = 0; step <= 60; step++) {
        const position = low + (high - low) * step / 60;
        const value = Math.sign(position) * (10 ** Math.abs(position) - 1);
        line.push(`${x(value).toFixed(1)} ${Math.max(20, Math.min(350, y(value * factor))).toFixed(1)}`);
      }
      svg.append(drawn("path", { class: "band", d: `M${line.join("L")}` }));
    }
    for (let power = Math.ceil(low); power <= Math.floor(high); power++) {
      const value = Math.sign(power) * 10 ** Math.abs(power);
      if (scale(value) > high || scale(value) < low) continue;
      svg.append(drawn("text", { x: x(value), y: 366, "text-anchor": "middle" }, String(value)));
      svg.append(drawn("text", { x: 44, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    svg.append(drawn("text", { x: 610, y: 384, "text-anchor": "end" }, "answer"));
    svg.append(drawn("text", { x: 50, y: 14 }, "prediction"));
    for (const row of points) {
      const [prediction, answer] = row[at.numbers];
      const point = drawn("circle", { cx: x(answer).toFixed(1), cy: y(prediction).toFixed(1), r: 4, class: state(row[at.correct]) });
      point.append(drawn("title", {}, `${row[at.question]} ${prediction} for ${answer}`));
      point.addEventListener("click", () => go(shown.indexOf(row)));
      svg.append(point);
    }
    box.replaceChildren(svg);
  }

  // ---------------------------------------------------------------- keyboard and start
  let current = -1;

  function go(number) {
    if (number < 0 || number >= shown.length) return;
    if (number >= written) more(number - written + AT_ONCE);
    current = number;
    const target = byId("rows").children[number];
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "center" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); byId("search").focus(); }
    if (event.key === "j") go(current + 1);
    if (event.key === "k") go(Math.max(0, current - 1));
  });

  function choices(id, values, all) {
    const select = byId(id);
    select.append(new Option(all, ""));
    for (const [value, count] of values) select.append(new Option(`${value} (${count})`, value));
  }

  function counted(name) {
    const counts = new Map();
    for (const row of data.rows) {
      const value = name === "verdict" ? state(row[at.correct]) : row[at[name]];
      if (value !== null && value !== undefined) counts.set(value, (counts.get(value) || 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }

  for (const name of ["verdict", ...FILTERS]) choices(name, counted(name), "all");
  byId("change_label").hidden = data.runs.length < 2;
  const form = byId("filters");
  let waiting = 0;
  form.addEventListener("input", () => { current = -1; clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  form.addEventListener("reset", () => setTimeout(apply, 0));
  form.addEventListener("submit", (event) => event.preventDefault());
  if ("IntersectionObserver" in window) {
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting) && written < shown.length) more(AT_ONCE);
    }, { rootMargin: "1200px" }).observe(byId("end"));
  } else {
    more(shown.length);
  }
  window.addEventListener("beforeprint", () => {
    more(shown.length - written);
    for (const image of document.querySelectorAll("#rows img")) load(image);
  });
  apply();
})();
