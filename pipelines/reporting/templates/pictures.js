"use strict";
// Heat maps: pointing at a word of a caption lights what the model attended to, drawn from the card's JSON.
// What a place has above an even share is shown, on one scale for the words of a caption that ends at the greatest
// weight, or at twice an even share if none reaches that; where the model attended to regions, their boxes. The same as Attention.opacity in gallery.py.
const HEAT = [255, 138, 30], OPAQUE = 235, DIM = 0.5, STEP = 750;

function prepare(card) {
  const data = JSON.parse(card.querySelector("script").textContent);
  const canvas = card.querySelector(".picture canvas"), words = [...card.querySelectorAll(".word")];
  const readout = card.querySelector(".readout"), play = card.querySelector(".play");
  const [left, top, right, bottom] = card.dataset.crop.split(" ").map(Number);
  const even = 1 / (data.rows * data.columns);
  const range = Math.max(Math.max(...data.weights.flat()) - even, even);
  const cells = document.createElement("canvas");
  cells.width = data.columns; cells.height = data.rows;
  let shown = -1, held = -1, timer = 0;

  function draw(weights) {
    const scale = window.devicePixelRatio || 1, box = canvas.parentElement.getBoundingClientRect();
    const w = canvas.width = Math.round(box.width * scale), h = canvas.height = Math.round(box.height * scale);
    const pen = canvas.getContext("2d"), small = cells.getContext("2d");
    if (data.boxes) { drawBoxes(pen, weights, w, h, scale); return; }
    const image = small.createImageData(data.columns, data.rows);
    weights.forEach((weight, i) => image.data.set([...HEAT, OPAQUE * Math.max(0, weight - even) / range], 4 * i));
    small.putImageData(image, 0, 0);
    const x = left * w, y = top * h, wide = (right - left) * w, high = (bottom - top) * h;
    pen.fillStyle = `rgba(12, 10, 8, ${DIM})`;
    pen.fillRect(0, 0, w, h);
    pen.imageSmoothingEnabled = true; pen.imageSmoothingQuality = "high";
    pen.drawImage(cells, x, y, wide, high);
    pen.setLineDash([4 * scale, 4 * scale]); pen.lineWidth = scale; pen.strokeStyle = "rgba(255, 255, 255, .45)";
    pen.strokeRect(x + scale / 2, y + scale / 2, wide - scale, high - scale);
  }

  function drawBoxes(pen, weights, w, h, scale) {
    pen.fillStyle = `rgba(12, 10, 8, ${DIM})`;
    pen.fillRect(0, 0, w, h);
    pen.lineWidth = 2 * scale;
    data.boxes.forEach(([x1, y1, x2, y2], i) => {
      const alpha = Math.max(0, weights[i] - even) / range;
      pen.fillStyle = `rgba(${HEAT}, ${alpha / 3})`; pen.strokeStyle = `rgba(${HEAT}, ${alpha})`;
      pen.fillRect(x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h);
      pen.strokeRect(x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h);
    });
  }

  function show(index) {
    shown = index;
    card.classList.toggle("seeing", index >= 0);
    words.forEach((word, i) => word.classList.toggle("on", i === index));
    if (index < 0) { readout.textContent = readout.dataset.rest; return; }
    const weights = data.weights[index], times = Math.max(...weights) * weights.length;
    draw(weights);
    readout.textContent = `“${words[index].textContent}” · peak ${times.toFixed(1)}× an even share`;
  }

  function stop() { clearInterval(timer); timer = 0; play.textContent = "▶ word by word"; }

  function start() {
    let next = 0;
    held = -1; show(0); play.textContent = "■ stop";
    timer = setInterval(() => { next += 1; if (next < words.length) show(next); else { stop(); show(-1); } }, STEP);
  }

  words.forEach((word, i) => {
    word.addEventListener("pointerenter", event => { if (event.pointerType === "mouse" && !timer) show(i); });
    word.addEventListener("pointerleave", event => { if (event.pointerType === "mouse" && !timer) show(held); });
    word.addEventListener("focus", () => { if (!timer && word.matches(":focus-visible")) show(i); });
    word.addEventListener("blur", () => { if (!timer) show(held); });
    word.addEventListener("click", () => { stop(); held = held === i ? -1 : i; show(held); });
    word.addEventListener("keydown", event => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1 }[event.key];
      if (words[to]) { event.preventDefault(); words[to].focus(); }
    });
  });
  play.addEventListener("click", () => { if (timer) { stop(); show(held); } else start(); });
  new ResizeObserver(() => { if (shown >= 0) draw(data.weights[shown]); }).observe(canvas.parentElement);
  play.hidden = false;
  show(-1);
}
document.querySelectorAll(".card[data-crop]").forEach(prepare);
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => { one.open = true; }));
