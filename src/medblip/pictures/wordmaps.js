"use strict";
(() => {
  const maps = JSON.parse(document.getElementById("maps").textContent);
  const scale = document.getElementById("scale");
  document.documentElement.classList.add("js");

  // Attention: bytes per patch, 255 at the word's strongest one.
  const decoded = new Map();
  function patches(name, id) {
    const key = name + "\n" + id;
    if (!decoded.has(key)) {
      const text = atob(maps[name].images[id].data);
      decoded.set(key, Uint8Array.from(text, (letter) => letter.charCodeAt(0)));
    }
    return decoded.get(key);
  }
  const colour = (t) => [255, 96 + 150 * t, 16 + 90 * t * t, 204 * t]; // opacity carries strength
  const share = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
  let highest = 0; // one peak for all words, when they are to share a scale
  for (const name of Object.keys(maps))
    for (const image of Object.values(maps[name].images)) highest = Math.max(highest, ...image.peaks);

  function place(index, rows, columns) {
    const y = ["upper", "middle", "lower"][Math.floor((3 * (Math.floor(index / columns) + 0.5)) / rows)];
    const x = ["left", "centre", "right"][Math.floor((3 * ((index % columns) + 0.5)) / columns)];
    return y === "middle" && x === "centre" ? "centre" : `${y} ${x}`;
  }

  function show(button) {
    const card = button.closest(".card");
    const canvas = card.querySelector("canvas");
    if (!canvas) return;
    const name = button.closest(".words").dataset.system;
    const [rows, columns] = maps[name].grid;
    const index = Number(button.dataset.index);
    const n = rows * columns;
    const values = patches(name, card.dataset.id).subarray(index * n, (index + 1) * n);
    const peak = maps[name].images[card.dataset.id].peaks[index];
    const top = scale && scale.value === "share" ? highest : peak;
    const small = document.createElement("canvas");
    small.width = columns;
    small.height = rows;
    const context = small.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    values.forEach((value, i) => pixels.data.set(colour((value / 255) * (top ? peak / top : 0)), 4 * i));
    context.putImageData(pixels, 0, 0);
    const box = canvas.parentElement.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
    const large = canvas.getContext("2d");
    large.imageSmoothingEnabled = true; // bilinear: the grid has no finer detail than its patches
    large.imageSmoothingQuality = "low";
    large.drawImage(small, 0, 0, canvas.width, canvas.height);
    canvas.hidden = false;
    card.querySelector(".scale").hidden = false;
    card.querySelector(".peak").textContent = `${share(top)} per patch`;
    card.querySelector(".where").textContent = peak
      ? `“${button.textContent}” (${name}): most at the picture’s ${place(values.indexOf(255), rows, columns)}, ` +
        `${share(peak)} of its attention in one patch; an even spread would be ${share(1 / n)}.`
      : `“${button.textContent}” (${name}): no patch in this view.`;
  }

  function rest(card) {
    const kept = card.querySelector('.words button[aria-pressed="true"]');
    if (kept) { show(kept); return; }
    const canvas = card.querySelector("canvas");
    if (canvas) canvas.hidden = true;
    card.querySelector(".scale").hidden = true;
    card.querySelector(".where").textContent = "";
  }

  const cards = [...document.querySelectorAll(".card")];
  const word = (event) => event.target.closest(".words button");
  for (const card of cards) {
    for (const kind of ["mouseover", "focusin"])
      card.addEventListener(kind, (event) => { if (word(event)) show(word(event)); });
    for (const kind of ["mouseout", "focusout"])
      card.addEventListener(kind, (event) => { if (word(event)) rest(card); });
    card.addEventListener("click", (event) => {
      const button = word(event);
      if (!button) return;
      const pressed = button.getAttribute("aria-pressed") === "true";
      for (const other of card.querySelectorAll(".words button[aria-pressed]")) other.removeAttribute("aria-pressed");
      if (!pressed) button.setAttribute("aria-pressed", "true");
      show(button);
    });
  }

  // One Tab stop per caption; arrows, Home and End move within it.
  for (const group of document.querySelectorAll(".words")) {
    const words = [...group.querySelectorAll("button")];
    words.forEach((button, index) => { button.tabIndex = index ? -1 : 0; });
    group.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.target.blur(); return; }
      const at = words.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: words.length - 1 }[event.key];
      if (at < 0 || to === undefined || !words[to]) return;
      event.preventDefault();
      words.forEach((button) => { button.tabIndex = -1; });
      words[to].tabIndex = 0;
      words[to].focus();
    });
  }
  if (scale) scale.addEventListener("change", () => cards.forEach(rest));
})();
