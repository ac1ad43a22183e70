"use strict";
(() => {
  const maps = JSON.parse(document.getElementById("maps").textContent);
  const root = document.documentElement;

  document.getElementById("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });

  // Tables: headings become buttons, rows sort by data-value or text.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => {
          const cell = row.cells[column];
          return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
        };
        const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
      });
    });
  }

  // Black through orange to white, seen over a grey image: opacity carries the strength.
  const colour = (t) => [255, Math.round(90 + 165 * t), Math.round(20 + 160 * t * t), Math.round(225 * t)];

  function show(button) {
    const card = button.closest(".card");
    const system = maps[button.closest(".caption").dataset.system];
    const values = system.images[card.dataset.id][Number(button.dataset.index)];
    const [rows, columns] = system.grid;
    const canvas = card.querySelector("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    values.forEach((value, index) => pixels.data.set(colour(value / 255), 4 * index));
    context.putImageData(pixels, 0, 0); // the browser scales it up smoothly
    canvas.hidden = false;
    card.querySelector(".word").textContent = button.textContent;
  }

  function hide(card) {
    const kept = card.querySelector('.caption button[aria-pressed="true"]');
    if (kept) { show(kept); return; }
    card.querySelector("canvas").hidden = true;
    card.querySelector(".word").textContent = "";
  }

  const gallery = document.querySelector(".gallery");
  const word = (event) => event.target.closest(".caption button");
  gallery.addEventListener("mouseover", (event) => { if (word(event)) show(word(event)); });
  gallery.addEventListener("focusin", (event) => { if (word(event)) show(word(event)); });
  for (const kind of ["mouseout", "focusout"])
    gallery.addEventListener(kind, (event) => { if (word(event)) hide(event.target.closest(".card")); });
  gallery.addEventListener("click", (event) => {
    const button = word(event);
    if (!button) return;
    const pressed = button.getAttribute("aria-pressed") === "true";
    for (const other of button.closest(".card").querySelectorAll("button[aria-pressed]"))
      other.removeAttribute("aria-pressed");
    if (!pressed) button.setAttribute("aria-pressed", "true");
    show(button);
  });

  const filters = ["kind", "modality"].map((id) => document.getElementById(id)).filter(Boolean);
  const cards = [...document.querySelectorAll(".card")];
  function filter() {
    for (const card of cards)
      card.hidden = filters.some((select) => select.value && card.dataset[select.id] !== select.value);
    const shown = cards.filter((card) => !card.hidden).length;
    document.getElementById("count").textContent = `${shown} of ${cards.length}`;
  }
  for (const select of filters) select.addEventListener("change", filter);
  filter();

  const truth = document.getElementById("truth");
  if (truth) truth.addEventListener("change", () => {
    for (const outline of document.querySelectorAll(".outline")) outline.hidden = !truth.checked;
  });
})();
