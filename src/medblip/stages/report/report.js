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
  for (const unfold of document.querySelectorAll(".unfold"))
    unfold.addEventListener("click", () => {
      const strip = unfold.closest(".strip");
      unfold.setAttribute("aria-expanded", String(strip.classList.toggle("open")));
    });

  const filters = ["kind", "modality", "errors"].map(byId).filter(Boolean);
  function filter() {
    for (const card of cards) // a card has several errors, one kind, one modality
      card.hidden = filters.some((select) => select.value && !card.dataset[select.id].split("|").includes(select.value));
    const shown = cards.filter((card) => !card.hidden).length;
    if (byId("count")) byId("count").textContent = `${shown} of ${cards.length} images`;
  }
  for (const select of filters) select.addEventListener("change", filter);
  filter();

  const truth = byId("truth");
  if (truth) truth.addEventListener("change", () => {
    for (const outline of document.querySelectorAll(".outline")) outline.hidden = !truth.checked;
  });
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
