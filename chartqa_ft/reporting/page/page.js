"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = Object.fromEntries(data.fields.map((name, number) => [name, number]));
  const byId = (id) => document.getElementById(id);
  const AT_ONCE = 48;
  let charts = null;   // parsed when the first picture is needed: it is nearly all of the file
  const two = data.runs.length > 1;
  const byName = new Intl.Collator(undefined, { numeric: true });
  const chartOrder = [];
  data.names.map((name, number) => [name, number]).sort((a, b) => byName.compare(a[0], b[0]))
    .forEach(([, number], place) => { chartOrder[number] = place; });
  let shown = data.rows;
  let written = 0;

  function picture(number) {
    if (charts === null) charts = JSON.parse(byId("charts").textContent);
    return charts[number];
  }

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) {
      made.textContent = text;   // never as HTML
      made.dir = "auto";
    }
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

  function line(label, text, verdict) {
    const paragraph = element("p");
    paragraph.append(element("span", "meta", `${label}: `), element(verdict ? "strong" : "span", verdict, text || "(empty)"));
    return paragraph;
  }

  // The predicted table beside the right one; cells that the other one does not have are marked.
  function besides([prediction, answer], name) {
    const box = element("div", "columns");
    for (const [title, rows, other] of [[name, prediction, answer], ["Answer", answer, prediction]]) {
      const known = new Set(other.flat());
      const table = element("table");
      table.append(element("caption", "meta", rows.length ? title : `${title}: (no table)`));
      rows.forEach((cells, number) => {
        const line = element("tr");
        for (const cell of cells) {
          line.append(element(number ? "td" : "th", known.has(cell) ? "" : "wrong", cell));
        }
        table.append(line);
      });
      box.append(table);
    }
    return box;
  }

  function because(correct, why) {
    const paragraph = element("p", "verdict");
    paragraph.append(element("strong", state(correct), verdictOf(correct)), document.createTextNode(`: ${why}`));
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
    if (row[at.grids]) made.append(besides(row[at.grids], two ? data.runs[0] : "Prediction"));
    else made.append(line(two ? data.runs[0] : "Prediction", row[at.prediction], state(row[at.correct])));
    if (row[at.extracted] !== null) made.append(line("Scored", row[at.extracted]));
    made.append(because(row[at.correct], row[at.why]));
    if (two) {
      made.append(line(data.runs[1], row[at.other_prediction], state(row[at.other_correct])));
      made.append(because(row[at.other_correct], row[at.other_why]));
    }
    if (row[at.answer] !== null && !row[at.grids]) made.append(line("Answer", row[at.answer], "answer"));
    const facts = [data.names[chart], row[at.source], row[at.question_type], row[at.answer_type]];
    facts.push(...new Set(mistakes(row)));
    made.append(element("p", "meta", `${row[at.index]} · ${facts.filter(Boolean).join(" · ")}`));
    return made;
  }

  function more(count) {
    const part = document.createDocumentFragment();
    for (const row of shown.slice(written, written + count)) part.append(card(row));
    written = Math.min(shown.length, written + count);
    byId("rows").append(part);
  }

  const FILTERS = ["source", "question_type", "answer_type", "change"];

  function mistakes(row) {
    const kinds = [];
    if (state(row[at.correct]) === "wrong") kinds.push(row[at.kind]);
    if (two && state(row[at.other_correct]) === "wrong") kinds.push(row[at.other_kind]);
    return kinds;
  }

  function passes(row, wanted, words) {
    if (wanted.verdict && state(row[at.correct]) !== wanted.verdict) return false;
    if (wanted.kind && !mistakes(row).includes(wanted.kind)) return false;
    for (const name of FILTERS) if (wanted[name] && row[at[name]] !== wanted[name]) return false;
    if (!words.length) return true;
    const text = [row[at.question], row[at.answer], row[at.prediction], row[at.extracted], data.names[row[at.chart]],
      row[at.other_prediction]].filter((value) => value !== null && value !== undefined).join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function apply() {
    const wanted = Object.fromEntries(["verdict", "kind", ...FILTERS].map((name) => [name, byId(name).value]));
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = data.rows.filter((row) => passes(row, wanted, words));
    const order = byId("sort").value;
    if (order === "chart") {
      const place = (row) => (row[at.chart] === null ? -1 : chartOrder[row[at.chart]]);
      shown = [...shown].sort((a, b) => place(a) - place(b));
    } else if (order === "error") {
      const size = (row) => (row[at.error] === null ? -1 : Math.abs(row[at.error]));
      shown = [...shown].sort((a, b) => size(b) - size(a));
    }
    const right = (key) => shown.filter((row) => row[key] === 1).length;
    const verdicts = two
      ? `right: ${right(at.correct)} by ${data.runs[0]}, ${right(at.other_correct)} by ${data.runs[1]}`
      : `${right(at.correct)} right`;
    byId("count").textContent = `${shown.length} of ${data.rows.length} examples, ${verdicts}`;
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

  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

  function plot() {
    const points = shown.filter((row) => row[at.numbers] !== null);
    const box = byId("plot");
    sizes(points);
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
    const gap = Math.ceil((high - low) / 9);
    for (let power = Math.ceil(low); power <= Math.floor(high); power++) {
      if (power % gap) continue;
      const value = Math.sign(power) * 10 ** Math.abs(power);
      if (scale(value) > high || scale(value) < low) continue;
      svg.append(drawn("text", { x: x(value), y: 368, "text-anchor": "middle" }, compact.format(value)));
      svg.append(drawn("text", { x: 44, y: y(value) + 4, "text-anchor": "end" }, compact.format(value)));
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

  // How many predictions are off by how much. An answer of 0 has no percent.
  const STEPS = [[0, "exact"], [0.05, "to 5 %"], [0.1, "to 10 %"], [0.25, "to 25 %"], [0.5, "to 50 %"], [1, "to 100 %"], [Infinity, "more"]];

  function sizes(points) {
    const known = points.filter((row) => row[at.error] !== null);
    if (!known.length) { byId("sizes").replaceChildren(); return; }
    const counts = STEPS.map(() => 0);
    for (const row of known) counts[STEPS.findIndex(([limit]) => Math.abs(row[at.error]) <= limit)] += 1;
    const most = Math.max(...counts);
    const svg = drawn("svg", { viewBox: "0 0 400 240", role: "img", "aria-label": "number of predictions by their error" });
    STEPS.forEach(([limit, name], number) => {
      const width = 230 * counts[number] / most, top = 10 + 32 * number;
      svg.append(drawn("text", { x: 84, y: top + 16, "text-anchor": "end" }, name));
      svg.append(drawn("rect", { x: 90, y: top, width, height: 22, class: limit <= 0.05 ? "right" : "wrong" }));
      svg.append(drawn("text", { x: 96 + width, y: top + 16 }, `${counts[number]}`));
    });
    byId("sizes").replaceChildren(svg);
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
    if (event.key === "Escape" && event.target === byId("search")) { event.target.blur(); return; }
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
      const values = name === "verdict" ? [state(row[at.correct])] : name === "kind" ? new Set(mistakes(row)) : [row[at[name]]];
      for (const value of values) {
        if (value !== null && value !== undefined) counts.set(value, (counts.get(value) || 0) + 1);
      }
    }
    return [...counts].sort((a, b) => b[1] - a[1]);
  }

  byId("skip").addEventListener("click", () => {
    byId("search").focus();
    byId("examples").scrollIntoView();
  });

  for (const name of ["verdict", "kind", ...FILTERS]) choices(name, counted(name), "all");
  byId("change_label").hidden = !two;
  if (two) byId("verdict_name").textContent = `Verdict of ${data.runs[0]}`;
  const form = byId("filters");
  let waiting = 0;
  const again = (delay) => {
    current = -1;
    clearTimeout(waiting);
    waiting = setTimeout(apply, delay);
  };
  byId("search").addEventListener("input", () => again(120));
  form.addEventListener("change", () => again(0));
  form.addEventListener("reset", () => again(0));
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
