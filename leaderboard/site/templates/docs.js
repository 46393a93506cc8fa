"use strict";
// Filters of the docs of a board over all of its pages; the address holds them, as a link to a doc does.
(() => {
  const form = document.getElementById("filters"), { docs, offer, fits, read, write, keys, next, go } = window.mimicFilters;
  const FIELDS = ["show", "entry", "n", "class", "q", "keys"], here = document.querySelector("nav.pages [aria-current]").dataset.file;
  const articles = new Map([...document.querySelectorAll("article")].map((article) => [article.id, article]));
  const navs = [...document.querySelectorAll("nav.pages")], links = navs.map((nav) => [...nav.children]);
  const none = document.getElementById("none");
  let all = [], entries = [], chosen = [], last = null;

  const query = () => write(form, FIELDS, new URLSearchParams());
  const marked = () => {
    const show = form.elements.show.value, at = entries.indexOf(form.elements.entry.value);
    const marks = (doc) => at < 0 ? [...doc.marks].filter((mark) => mark !== "-") : [doc.marks[at]];
    return {
      "": () => true,
      differ: (doc) => new Set([...doc.marks].filter((mark) => mark !== "-")).size > 1,
      wrong: (doc) => marks(doc).length > 0 && marks(doc).every((mark) => mark === "0" || mark === "p"),
      right: (doc) => marks(doc).length > 0 && marks(doc).every((mark) => mark === "1"),
      unscored: (doc) => marks(doc).includes("u"),
    }[show];
  };
  const target = (doc) => {
    const state = query();
    if (!state.size) return doc.page.split("/").pop();
    state.set("at", doc.anchor);
    return doc.file.split("/").pop() + "#" + state;
  };
  const apply = () => {
    const one = marked(), other = fits(form), entry = form.elements.entry.value;
    chosen = all.filter((doc) => one(doc) && other(doc));
    const wanted = new Set(chosen.map((doc) => doc.anchor)), counts = new Map();
    for (const doc of chosen) counts.set(doc.file.split("/").pop(), (counts.get(doc.file.split("/").pop()) || 0) + 1);
    for (const [anchor, article] of articles) {
      article.hidden = !wanted.has(anchor);
      for (const link of article.querySelectorAll("th a")) {
        link.closest("tr").classList.toggle("chosen", entry !== "" && link.getAttribute("href") === "../models/" + entry + ".html");
      }
    }
    const limited = chosen.length < all.length, text = query().toString();
    for (const items of links) {
      for (const item of items) {
        const file = item.dataset.file, count = counts.get(file) || 0;
        item.hidden = limited && !count && file !== here;
        if (limited) item.dataset.count = count;
        else delete item.dataset.count;
        if (item.tagName === "A") item.href = text ? file + "#" + text : file;
      }
    }
    const on = counts.get(here) || 0;
    document.getElementById("count").textContent = limited ? chosen.length + " of " + all.length + " docs, " + on + " on this page" : all.length + " docs";
    none.hidden = on > 0;
    if (!on) {
      none.textContent = chosen.length ? "No doc on this page fits the filters. " : "No doc fits the filters.";
      if (chosen.length) none.append(Object.assign(document.createElement("a"), { href: target(chosen[0]), textContent: "The first that does: doc " + chosen[0].number }));
    }
    window.mimicTables.fits();
  };
  const step = (by) => {
    const visible = chosen.filter((doc) => doc.file.endsWith("/" + here)).map((doc) => articles.get(doc.anchor));
    const to = next(visible, last, by);
    if (to) { last = to; go(to); return; }
    const page = all.findIndex((doc) => doc.file.endsWith("/" + here)), off = (doc) => !articles.has(doc.anchor);
    const beyond = by > 0
      ? chosen.find((doc) => doc.i > page && off(doc))
      : chosen.findLast((doc) => doc.i < page && off(doc));
    if (beyond) location.href = target(beyond);
  };
  const open = () => {
    const plain = /^#d[0-9a-f]{12}$/.test(location.hash);
    const given = plain ? new URLSearchParams() : new URLSearchParams(location.hash.slice(1));
    read(form, FIELDS, given);
    apply();
    const article = articles.get(plain ? location.hash.slice(1) : given.get("at"));
    if (article && !article.hidden) { last = article; go(article); }
  };
  window.mimicData = (key, record) => {
    all = docs(record);
    entries = record.entries.map(([id]) => id);
    offer(form, all);
    form.elements.entry.append(...record.entries.map(([id, label]) => new Option(label, id)));
    form.hidden = false;
    open();
    keys(form, step);
    form.addEventListener("input", () => {
      apply();
      const state = query();
      history.replaceState(null, "", state.size ? "#" + state : location.pathname + location.search);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", open);
  };
})();
