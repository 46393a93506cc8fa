"use strict";
// Filters and sorting of the overview; the address holds both.
(() => {
  const form = document.getElementById("filters");
  const tables = [...document.querySelectorAll("table.sortable")];
  const fields = ["family", "size", "intervention", "weights", "data", "name"];
  let sort = { table: "", key: "", up: false };

  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) {
      const field = form.elements[name], value = given.get(name) || "";
      field.value = field.tagName !== "SELECT" || [...field.options].some((o) => o.value === value) ? value : "";
    }
    const [table = "", key = "", up = ""] = (given.get("sort") || "").split(".");
    sort = { table, key, up: up === "up" };
  };
  const save = () => {
    const query = new URLSearchParams();
    for (const name of fields) if (form.elements[name].value) query.set(name, form.elements[name].value);
    if (sort.key) query.set("sort", [sort.table, sort.key, sort.up ? "up" : "down"].join("."));
    history.replaceState(null, "", query.size ? "#" + query : location.pathname + location.search);
  };
  const filter = () => {
    const name = form.elements.name.value.trim().toLowerCase();
    let visible = 0, all = 0;
    for (const section of document.querySelectorAll("section[data-data]")) {
      const data = form.elements.data.value;
      section.hidden = data !== "" && section.dataset.data !== data;
      for (const row of section.querySelectorAll("tbody tr:not(.group)")) {
        row.hidden = ["family", "size", "intervention", "weights"].some(
          (field) => form.elements[field].value !== "" && row.dataset[field] !== form.elements[field].value,
        ) || !row.dataset.name.toLowerCase().includes(name);
        all += 1;
        visible += !row.hidden && !section.hidden;
      }
      for (const group of section.querySelectorAll("tr.group")) {
        group.hidden = [...group.parentElement.rows].every((row) => row === group || row.hidden);
      }
    }
    document.getElementById("count").textContent = visible + " of " + all + " rows";
    window.mimicTables.fits(true);
  };
  const apply = () => {
    for (const table of tables) window.mimicTables.sort(table, table.id === sort.table ? sort.key : null, sort.up);
    filter();
  };
  for (const table of tables) {
    table.addEventListener("sorted", (event) => {
      sort = { table: table.id, ...event.detail };
      apply();
      save();
    });
  }
  form.addEventListener("input", () => { filter(); save(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { read(); apply(); });
  form.hidden = false;
  read();
  apply();
})();
