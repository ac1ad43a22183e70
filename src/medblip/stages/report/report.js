"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  root.classList.add("js");

  // Light and dark: the system's choice until the reader chooses.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { byId("theme").textContent = isDark() ? "Light" : "Dark"; };
  byId("theme").addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  label();

  // Tables: headings become buttons; rows sort by data-value or text, absent values last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const value = (row) => {
        const cell = row.cells[column];
        if ("value" in cell.dataset) return Number(cell.dataset.value);
        const text = cell.textContent.trim();
        return text === "–" ? null : text;
      };
      button.addEventListener("click", () => {
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const numeric = rows.some((row) => typeof value(row) === "number");
        const first = numeric ? "descending" : "ascending";
        const second = numeric ? "ascending" : "descending";
        const now = head.getAttribute("aria-sort") === first ? second : first;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        const sign = now === "descending" ? -1 : 1;
        body.append(...rows.sort((one, two) => {
          const [a, b] = [value(one), value(two)];
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * (a < b ? -1 : a > b ? 1 : 0);
        }));
      });
    });
  }

  const cards = [...document.querySelectorAll(".card")];

  // The style sheet filters; here they are only counted.
  const filters = ["kind", "modality", "errors"].map(byId).filter(Boolean);
  function count() {
    const shown = cards.filter((card) => getComputedStyle(card).display !== "none").length;
    if (byId("count")) byId("count").textContent = `${shown} of ${cards.length} images`;
  }
  for (const select of filters) select.addEventListener("change", count);
  count();

  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
