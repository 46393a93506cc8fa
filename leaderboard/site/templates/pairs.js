"use strict";
// Head to head. Every text goes in as text; the address holds the pair and the filters.
(() => {
  const form = document.getElementById("choice"), filters = document.getElementById("filters"), STEP = 50;
  const FIELDS = ["show", "n", "class", "q", "keys"], tools = window.mimicFilters;
  const loaded = new Map(), waiting = new Map();
  let index = null, request = 0;

  window.mimicData = (key, record) => {
    loaded.set(key, record);
    if (key === "index") { index = record; start(); }
    for (const done of waiting.get(key) || []) done(record);
    waiting.delete(key);
  };
  const load = (key) => new Promise((done, failed) => {
    if (loaded.has(key)) { done(loaded.get(key)); return; }
    if (waiting.has(key)) { waiting.get(key).push(done); return; }
    waiting.set(key, [done]);
    const script = document.createElement("script");
    script.src = "data/" + key + ".js";
    script.onerror = () => failed(new Error("data/" + key + ".js cannot be read"));
    document.head.append(script);
  });
  const make = (name, text = "", parts = {}) => Object.assign(document.createElement(name), { textContent: text }, parts);
  const points = (value) => {
    const number = 100 * value, text = number.toFixed(1);
    if (Number(text) !== 0) return text;
    return Math.abs(number) >= 1e-3 ? String(Number(number.toPrecision(2))) : "0.0";
  };
  const mean = (answers) => answers.some((a) => a[3] === null) ? null : answers.reduce((sum, a) => sum + a[3], 0) / answers.length;

  const byDoc = (record) => {
    const byDoc = new Map();
    for (const answer of record.answers) {
      if (!byDoc.has(answer[0])) byDoc.set(answer[0], []);
      byDoc.get(answer[0]).push(answer);
    }
    return byDoc;
  };
  const options = (select, pairs, chosen) => {
    select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, value === chosen)));
  };
  const board = () => index.boards.find((one) => one.id === form.elements.board.value);
  const entries = (a, b) => {
    const offered = board().entries.map((id) => [id, index.entries[id]]);
    const ids = board().entries;
    const first = ids.includes(a) ? a : ids.find((id) => id !== b);
    const second = ids.includes(b) && b !== first ? b : ids.find((id) => id !== first);
    options(form.elements.a, offered, first);
    options(form.elements.b, offered, second);
  };
  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    options(form.elements.board, index.boards.map((one) => [one.id, one.title]), given.get("board"));
    entries(given.get("a"), given.get("b"));
    return given;
  };
  const save = () => {
    const query = new URLSearchParams(["board", "a", "b"].map((name) => [name, form.elements[name].value]));
    tools.write(filters, FIELDS, query);
    history.replaceState(null, "", "#" + query);
  };
  const start = () => {
    if (index.boards.length === 0) {
      document.getElementById("result").append(make("p", "No two entries here ran on the same docs."));
      return;
    }
    form.hidden = false;
    show(read());
  };

  // The words of a test are those of `mimic compare` (leaderboard/sentences.py): only their direction is turned.
  const opposite = { better: "worse", worse: "better", steadier: "less steady", "less steady": "steadier" };
  const testOf = (tests, a, b) => tests.find(([x, y]) => (x === a && y === b) || (x === b && y === a));
  const signed = (value) => (value > 0 || points(value) === "0.0" ? "+" : "") + points(value);
  const turned = (test, a) => {
    const [first, , delta, low, high, method, tested, verdict, words] = test;
    const turn = first === a ? 1 : -1, [from, to] = turn === 1 ? [low, high] : [high, low];
    const ends = low === null ? method : "95 % CI " + points(turn * from) + " to " + points(turn * to);
    return { change: signed(turn * delta) + " points, " + ends + "; " + tested, verdict: turn === -1 && opposite[verdict] || words };
  };
  const steadiness = (record, a, b) => {
    const test = testOf(record.flips, a, b);
    if (!test) return "";
    const { change, verdict } = turned(test, a);
    return record.what + ", pairs of orders that agree: " + index.entries[b] + " vs " + index.entries[a] + " (" + change + "): " + verdict + ".";
  };
  const sentence = (record, a, b) => {
    const test = testOf(record.tests, a, b);
    if (!test) return "This pair is not tested here: one of the two is not ranked (another setting of a ranked entry, the same answers as another entry, or a person). The command mimic compare tests any two runs.";
    const { change, verdict } = turned(test, a);
    const [x, y] = [b, a].map((entry) => index.entries[entry] + " " + points(record.scores[entry]) + " %");
    return record.what + ": " + x + " vs " + y + " (" + change + "; unscored docs count as wrong): " + verdict
      + (opposite[verdict] && !record.higher_is_better ? " (lower is better)" : "") + ".";
  };
  const counts = (rows) => {
    const tally = { "only A right": 0, "only B right": 0, "both the same score": 0, "differ otherwise": 0, "unscored in one": 0 };
    let flips = 0, compared = 0;
    for (const row of rows) {
      tally[row.kind] += 1;
      if (row.kind !== "unscored in one") { compared += 1; flips += row.a[0][6] !== row.b[0][6]; }
    }
    const turned = rows.some((row) => row.a.length > 1);
    const parts = Object.entries(tally).filter(([, n]) => n > 0).map(([name, n]) => name + ": " + n);
    return parts.join("; ") + ". Answers that differ " + (turned ? "in the first order of the images: " : "(flips): ") + flips + " of " + compared + " docs"
      + (compared ? " (" + points(flips / compared) + " %)" : "") + ".";
  };
  const compared = (docs, a, b) => {
    const of = [byDoc(a), byDoc(b)];
    const order = ["only A right", "only B right", "differ otherwise", "unscored in one", "both the same score"];
    const rows = docs.filter((doc) => of.every((answersOf) => answersOf.has(doc.key))).map((doc) => {
      const [x, y] = of.map((answersOf) => answersOf.get(doc.key));
      const sa = mean(x), sb = mean(y);
      let kind = "both the same score";
      if (sa === null || sb === null) kind = "unscored in one";
      else if (sa === 1 && sb < 1) kind = "only A right";
      else if (sb === 1 && sa < 1) kind = "only B right";
      else if (sa !== sb) kind = "differ otherwise";
      return { doc, a: x, b: y, sa, sb, kind };
    });
    return rows.sort((x, y) => order.indexOf(x.kind) - order.indexOf(y.kind));
  };
  const responses = (answers) => answers.map((a) => a[5]).join(" | ");
  const judged = (score) => ({ 1: "right", 0: "wrong" }[score] ?? "score " + points(score) + " %");
  const cell = (answers, score) => {
    const td = make("td", responses(answers), { className: "answer" + ({ 1: " right", 0: " wrong" }[score] ?? "") });
    const read = answers.map((a) => a[2] === "parsed" ? tools.readable(a[6]) : a[2]).join(" | ");
    const said = score === null ? "unscored" : judged(score) + (read.toLowerCase() === td.textContent.trim().toLowerCase() ? "" : ", read as " + read);
    td.append(document.createElement("br"), make("small", said));
    return td;
  };
  const thumbnails = (doc) => {
    const span = make("span", "", { className: "thumbs" });
    span.append(...doc.images.map((src, i) => make("img", "", { loading: "lazy", src, alt: "Image " + (i + 1) + " of " + doc.images.length })));
    return span;
  };
  const line = (row) => {
    const { doc } = row, tr = make("tr"), head = make("th", "", { scope: "row" });
    head.append(make("a", "Doc " + doc.number, { href: doc.page }), make("br"), make("small", row.kind));
    const prompt = make("td", doc.question, { className: "question" });
    prompt.append(document.createElement("br"), make("small", (doc.n ? doc.n + " images; " : "") + "right answer: " + doc.gt), thumbnails(doc));
    const cells = [cell(row.a, row.sa), cell(row.b, row.sb)];
    cells.forEach((td, i) => { td.dataset.label = "AB"[i]; });
    tr.append(head, prompt, ...cells);
    return tr;
  };
  const list = (rows) => {
    const table = make("table", "", { className: "wide versus" }), head = table.createTHead().insertRow(), body = table.createTBody();
    for (const text of ["doc", "question", "A", "B"]) head.append(make("th", text, { scope: "col" }));
    const more = make("button", "", { type: "button" });
    const grow = () => {
      const from = body.rows.length;
      body.append(...rows.slice(from, from + STEP).map(line));
      more.hidden = body.rows.length >= rows.length;
      more.textContent = "Show more (" + (rows.length - body.rows.length) + " left)";
      window.mimicTables.fits(true);
    };
    more.addEventListener("click", grow);
    const frame = make("div", "", { className: "scroll", tabIndex: 0 });
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "Docs, discordant first");
    frame.append(table);
    document.getElementById("docs").replaceChildren(make("h2", "Docs, discordant first"), frame, more);
    grow();
    step = (by) => {
      const links = () => [...body.querySelectorAll("th a")];
      if (by > 0 && links().at(-1) === document.activeElement && !more.hidden) grow();
      const to = tools.next(links(), document.activeElement, by);
      if (to) tools.go(to);
    };
  };
  let rows = [], step = () => {};
  const kinds = {
    "": () => true,
    score: (row) => row.sa !== row.sb,
    answer: (row) => row.a.some((answer, i) => answer[3] === null || row.b[i]?.[3] === null || answer[6] !== row.b[i]?.[6]),
    "wrong-a": (row) => row.sa !== 1,
    "wrong-b": (row) => row.sb !== 1,
    wrong: (row) => row.sa !== 1 && row.sb !== 1,
  };
  const filter = () => {
    const kind = kinds[filters.elements.show.value], fits = tools.fits(filters);
    const chosen = rows.filter((row) => kind(row) && fits(row.doc));
    document.getElementById("count").textContent = chosen.length + " of " + rows.length + " docs";
    list(chosen);
  };
  const named = (id) => {
    const [colour, dash, marker] = index.looks[id], svg = (name, parts) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(parts)) element.setAttribute(key, value);
      return element;
    };
    const key = svg("svg", { class: "key", viewBox: "0 0 32 12", "aria-hidden": "true" });
    key.append(svg("path", { class: "l c" + colour + " d" + dash, d: "M0 6H32" }), svg("path", { class: "f" + colour, transform: "translate(16 6)", d: index.markers[marker] }));
    return [key, " ", make("a", index.entries[id], { href: "models/" + id + ".html" })];
  };
  const show = async (given) => {
    const current = ++request, chosen = board(), a = form.elements.a.value, b = form.elements.b.value;
    const result = document.getElementById("result");
    const stop = (text) => { result.replaceChildren(make("p", text)); document.getElementById("docs").replaceChildren(); filters.hidden = true; };
    try {
      const [record, about] = await Promise.all([load("boards/" + chosen.id), load("docs/" + chosen.id)]);
      const [one, other] = await Promise.all([a, b].map((id) => load("answers/" + record.results[id])));
      if (current !== request) return;
      if (a === b) { stop("A and B are the same entry: choose two."); return; }
      const docs = tools.docs(about);
      rows = compared(docs, one, other);
      const verdict = make("p", sentence(record, a, b), { className: "sentence" });
      const who = make("p", "", { className: "small" });
      who.append("A: ", ...named(a), document.createElement("br"), "B: ", ...named(b));
      result.replaceChildren(make("h2", record.title), who, verdict, make("p", counts(rows)), make("p", steadiness(record, a, b)));
      const choice = given || tools.write(filters, FIELDS, new URLSearchParams());
      tools.offer(filters, docs);
      tools.read(filters, FIELDS, choice);
      filters.hidden = false;
      filter();
      if (!given) save();
    } catch (error) {
      if (current === request) stop(String(error.message));
    }
  };
  form.addEventListener("input", (event) => {
    if (event.target.name === "board") entries(form.elements.a.value, form.elements.b.value);
    save();
    show();
  });
  filters.addEventListener("input", () => { filter(); save(); });
  for (const one of [form, filters]) one.addEventListener("submit", (event) => event.preventDefault());
  tools.keys(filters, (by) => step(by));
  window.addEventListener("hashchange", () => { if (index && index.boards.length) show(read()); });
})();
