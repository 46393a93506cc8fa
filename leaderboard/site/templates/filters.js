"use strict";
// What doc pages and head to head share: which docs a reader wants, what the address says of it, and the keys.
window.mimicFilters = (() => {
  // A row of data/docs/*.js; `marks` has a character for each entry: 1 right, 0 wrong, p partly, u unscored, - none.
  const docs = (record) => record.docs.map(([key, number, question, gt, n, page, classes, images, marks], i) => ({
    i, key, number, question, gt, n, page, classes, marks,
    file: page.split("#")[0], anchor: page.split("#")[1], images: images.map((i) => record.images[i]),
    text: (question + "\n" + gt).toLowerCase(),
  }));
  const fill = (select, values) => {
    const all = select.options[0];
    select.replaceChildren(all, ...values.map((value) => new Option(value, value)));
    select.closest("label").hidden = values.length < 2;
  };
  const offer = (form, all) => {
    fill(form.elements.n, [...new Set(all.map((doc) => doc.n))].filter(Boolean).sort((x, y) => x - y));
    fill(form.elements.class, [...new Set(all.flatMap((doc) => doc.classes))].sort());
  };
  const fits = (form) => {
    const n = form.elements.n.value, name = form.elements.class.value, text = form.elements.q.value.trim().toLowerCase();
    return (doc) => (n === "" || doc.n === n) && (name === "" || doc.classes.includes(name)) && doc.text.includes(text);
  };
  // Only values that a select offers are taken from an address.
  const read = (form, fields, given) => {
    for (const name of fields) {
      const field = form.elements[name], value = given.get(name) || "";
      if (field.type === "checkbox") field.checked = value !== "off";
      else field.value = field.tagName !== "SELECT" || [...field.options].some((o) => o.value === value) ? value : "";
    }
  };
  const write = (form, fields, query) => {
    for (const name of fields) {
      const field = form.elements[name];
      const value = field.type === "checkbox" ? (field.checked ? "" : "off") : field.value;
      if (value) query.set(name, value);
    }
    return query;
  };
  // j and k step through docs, / goes to the search; never with a modifier, in a field, or when switched off.
  const keys = (form, step) => {
    document.addEventListener("keydown", (event) => {
      const field = event.target.closest?.("input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable]");
      if (event.key === "Escape" && event.target === form.elements.q) event.target.blur();
      if (field || event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey || !form.elements.keys.checked) return;
      if (event.key === "j" || event.key === "k") {
        event.preventDefault();
        step(event.key === "j" ? 1 : -1);
      } else if (event.key === "/") {
        event.preventDefault();
        form.elements.q.focus();
        form.elements.q.select();
      }
    });
  };
  // The element to go to: after the one last gone to while that is on the screen, else from the screen's top.
  const next = (elements, last, by) => {
    const seen = (one) => { const box = one.getBoundingClientRect(); return box.bottom > 0 && box.top < window.innerHeight; };
    const at = elements.indexOf(last);
    if (at >= 0 && seen(last)) return elements[at + by];
    const tops = elements.map((one) => one.getBoundingClientRect().top);
    return by > 0 ? elements.find((_, i) => tops[i] > -1) : elements.findLast((_, i) => tops[i] < -1);
  };
  const go = (element) => {
    if (!element.hasAttribute("tabindex")) element.tabIndex = -1;
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "start" });
  };
  // As leaderboard/site/texts.py has it: what a parser read in an answer, as people write it.
  const readable = (answer) => {
    const words = (value) => {
      if (Array.isArray(value)) return value.map(words).join(", ") || "nothing";
      if (value !== null && typeof value === "object") return Object.entries(value).map(([name, one]) => name + ": " + words(one)).join(", ");
      return typeof value === "string" && /^["[{]/.test(value) ? readable(value) : String(value);
    };
    try {
      return words(JSON.parse(answer));
    } catch {
      return /^["[{]/.test(answer) ? answer.replace(/[[\]{}"\\]/g, "") : answer;
    }
  };
  return { docs, readable, offer, fits, read, write, keys, next, go };
})();
