"use strict";
// Tables: a whole header cell sorts (class "sortable"), and a table too wide for a small screen becomes cards.
(() => {
  const SMALL = 700;
  const words = (element) => {
    const texts = [], walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) texts.push(walk.currentNode.data);
    return texts.join(" ").trim().replace(/\s+/g, " ");
  };

  // A cell's value: data-v, else a number that its text starts with, else its text; "–" has none.
  const value = (cell) => {
    const text = cell ? cell.dataset.v ?? words(cell) : "";
    if (["", "–", "-"].includes(text)) return null;
    if (cell.tagName === "TH") return text; // a name may start with a digit
    const number = Number.parseFloat(text.replace(/^([+-]?[\d.,]*\d).*$/s, "$1").replaceAll(",", ""));
    return Number.isNaN(number) || !/^[+-]?[\d.]/.test(text) ? text : number;
  };
  const compare = (x, y) => typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
  const heads = (table) => [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const key = (head, i) => head.dataset.key ?? String(i);

  // An unknown key brings the first order back.
  const sort = (table, by, up) => {
    const at = heads(table).findIndex((head, i) => key(head, i) === by);
    heads(table).forEach((head, i) => {
      if (i === at) head.setAttribute("aria-sort", up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    // Rows stay in their group (a tbody, below the row of its name); groups go by the row that comes first.
    const order = (x, y, a, b) => {
      if (a === null || b === null) return (a === null) - (b === null) || x.dataset.first - y.dataset.first;
      return (up ? 1 : -1) * compare(a, b) || x.dataset.first - y.dataset.first;
    };
    const bodies = [...table.tBodies];
    const leading = new Map(bodies.map((body, i) => {
      body.dataset.first ??= String(i);
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      rows.forEach((row, i) => { row.dataset.first ??= String(i); });
      const values = new Map(rows.map((row) => [row, at < 0 ? null : value(row.cells[at])]));
      rows.sort((x, y) => order(x, y, values.get(x), values.get(y)));
      body.append(...rows);
      return [body, values.get(rows[0]) ?? null];
    }));
    bodies.sort((x, y) => order(x, y, leading.get(x), leading.get(y)));
    for (const body of bodies) table.insertBefore(body, table.tFoot);
  };
  const sortable = (table) => {
    heads(table).forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      if (head.querySelector("a")) {
        button.setAttribute("aria-label", "Sort by " + words(head));
        button.textContent = "↕";
      } else button.append(...head.childNodes);
      head.append(button);
      head.classList.add("sorts");
      head.addEventListener("click", (event) => {
        if (event.target.closest("a")) return;
        const now = head.getAttribute("aria-sort");
        const texts = [...table.querySelectorAll("tbody tr:not(.group)")].every((row) => typeof value(row.cells[i]) !== "number");
        const up = now ? now === "descending" : texts;
        sort(table, key(head, i), up);
        table.dispatchEvent(new CustomEvent("sorted", { detail: { key: key(head, i), up } }));
      });
    });
  };

  // What cards need: in each cell the head of its column, and the roles that a grid would hide.
  const label = (table) => {
    const names = heads(table).map(words);
    const roles = [["thead, tbody, tfoot", "rowgroup"], ["tr", "row"], ["td", "cell"], ["tbody th, tfoot th", "rowheader"], ["thead th", "columnheader"]];
    table.setAttribute("role", "table");
    for (const [which, role] of roles) table.querySelectorAll(which).forEach((one) => one.setAttribute("role", role));
    for (const row of table.querySelectorAll("tbody tr, tfoot tr")) {
      [...row.cells].forEach((cell, i) => { if (cell.tagName === "TD") cell.dataset.label = names[i] ?? ""; });
    }
  };
  // Tables are measured when they are first visible at this width; `again`: all of them, because rows changed.
  const measured = new WeakMap();
  const fits = (again = false) => {
    const tables = [...document.querySelectorAll(".scroll > table")].filter(
      (table) => table.tHead && table.offsetParent && (again || measured.get(table) !== window.innerWidth),
    );
    tables.forEach((table) => {
      measured.set(table, window.innerWidth);
      table.classList.remove("cards");
    });
    if (window.innerWidth > SMALL) return;
    const wide = tables.filter((table) => table.scrollWidth > table.parentElement.clientWidth + 1);
    for (const table of wide) {
      label(table);
      table.classList.add("cards");
    }
  };
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; fits(); } });
  document.addEventListener("toggle", (event) => { if (event.target.open) fits(); }, true);
  window.mimicTables = { sort, fits };
  document.querySelectorAll("table.sortable").forEach(sortable);
  fits();
})();
