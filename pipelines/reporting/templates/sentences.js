"use strict";
// Pointing at a word of a translation, or at its row of the matrix, shades what it attended to in the source.
function prepare(card) {
  const weights = JSON.parse(card.querySelector("script").textContent);
  const words = [...card.querySelectorAll(".word")], places = [...card.querySelectorAll(".place")];
  const rows = [...card.querySelectorAll("svg .row")], readout = card.querySelector(".readout");
  let held = -1;

  function show(index) {
    words.forEach((word, i) => word.classList.toggle("on", i === index));
    rows.forEach((row, i) => row.classList.toggle("on", i === index));
    const seen = index < 0 ? [] : weights[index];
    places.forEach((place, i) => place.style.setProperty("--heat", `${Math.round(100 * (seen[i] || 0))}%`));
    if (index < 0) { readout.textContent = readout.dataset.rest; return; }
    const most = seen.indexOf(Math.max(...seen));
    readout.textContent = `“${words[index].textContent}” looked most at “${places[most].textContent}”, ${Math.round(100 * seen[most])}%`;
  }

  [words, rows].forEach(list => list.forEach((one, i) => {
    one.addEventListener("pointerenter", event => { if (event.pointerType === "mouse") show(i); });
    one.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") show(held); });
    one.addEventListener("click", () => { held = held === i ? -1 : i; show(held); });
  }));
  words.forEach((word, i) => {
    word.addEventListener("focus", () => { if (word.matches(":focus-visible")) show(i); });
    word.addEventListener("blur", () => show(held));
    word.addEventListener("keydown", event => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 }[event.key];
      if (words[to]) { event.preventDefault(); words[to].focus(); }
    });
  });
  show(-1);
}
document.querySelectorAll(".sentence:has(.word)").forEach(prepare);
