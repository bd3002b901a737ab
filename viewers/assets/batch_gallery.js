"use strict";
// Every item is a row [name, kind, error, failure, seconds, page, thumb]; only tiles near the window exist.

const ROW = 190, WIDTH = 280, GAP = 12, MARGIN = 2;
const [NAME, KIND, ERROR, FAILURE, SECONDS, PAGE, THUMB] = [0, 1, 2, 3, 4, 5, 6];

const items = JSON.parse(document.getElementById("items").textContent);
const grid = document.getElementById("grid");
const sort = document.getElementById("sort"), show = document.getElementById("show");
const search = document.getElementById("search"), count = document.getElementById("count");
const byName = new Intl.Collator(undefined, { numeric: true }).compare;

let shown = [];
const tiles = new Map(); // position in `shown` -> element

// What failed is worse than any error; what has none is better.
const badness = (item) => (item[FAILURE] !== null ? Infinity : item[ERROR] === null ? -Infinity : item[ERROR]);
const apart = (a, b) => (a === b ? 0 : a < b ? -1 : 1);
const orders = {
  worst: (a, b) => apart(badness(b), badness(a)) || byName(a[NAME], b[NAME]),
  best: (a, b) => apart(badness(a), badness(b)) || byName(a[NAME], b[NAME]),
  name: (a, b) => byName(a[NAME], b[NAME]),
  slow: (a, b) => b[SECONDS] - a[SECONDS] || byName(a[NAME], b[NAME]),
};

function choose() {
  const text = search.value.trim().toLowerCase();
  shown = items.filter((item) => {
    if (show.value !== "all" && (item[FAILURE] === null) !== (show.value === "done")) return false;
    return !text || `${item[NAME]} ${item[FAILURE] ?? ""}`.toLowerCase().includes(text);
  });
  shown.sort(orders[sort.value]);
  const failed = items.reduce((sum, item) => sum + (item[FAILURE] !== null), 0);
  const some = shown.length === items.length ? "" : `${shown.length} of `;
  count.textContent = `${some}${items.length} items, ${failed} failed`;
  clear();
  draw();
}

function clear() {
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
}

let columns = 0, width = 0;
function draw() {
  const wide = grid.clientWidth;
  const fitting = Math.max(1, Math.floor((wide + GAP) / (WIDTH + GAP)));
  if (fitting !== columns || wide !== width) {
    [columns, width] = [fitting, wide];
    clear();
  }
  const rows = Math.ceil(shown.length / columns);
  grid.style.height = `${rows * ROW}px`;
  const top = window.scrollY - grid.offsetTop;
  const first = Math.max(0, Math.floor(top / ROW) - MARGIN) * columns;
  const last = Math.min(shown.length, (Math.ceil((top + window.innerHeight) / ROW) + MARGIN) * columns);
  for (const [i, tile] of tiles) {
    if (i < first || i >= last) {
      tile.remove();
      tiles.delete(i);
    }
  }
  const room = (wide - (columns - 1) * GAP) / columns;
  let before = null; // keep the order of the document that of the screen, for the keyboard
  for (let i = last - 1; i >= first; i--) {
    let tile = tiles.get(i);
    if (!tile) {
      tile = made(shown[i], i);
      tile.style.width = `${room}px`;
      tile.style.left = `${(i % columns) * (room + GAP)}px`;
      tile.style.top = `${Math.floor(i / columns) * ROW}px`;
      tiles.set(i, tile);
      grid.insertBefore(tile, before);
    }
    before = tile;
  }
}

const address = (name, file) => `${name.split("/").map(encodeURIComponent).join("/")}/${encodeURIComponent(file)}`;

function made(item, position) {
  const tile = document.createElement(item[PAGE] ? "a" : "div");
  tile.className = item[FAILURE] === null ? "tile" : "tile failed";
  tile.setAttribute("role", "listitem");
  tile.setAttribute("aria-posinset", position + 1);
  tile.setAttribute("aria-setsize", shown.length);
  tile.title = item[FAILURE] ?? item[NAME];
  if (item[PAGE]) {
    tile.href = address(item[NAME], item[PAGE]);
    tile.target = "_blank";
  }
  if (item[THUMB]) {
    const image = document.createElement("img");
    image.alt = "";
    image.decoding = "async";
    image.src = address(item[NAME], "thumb.jpg");
    tile.append(image);
  } else {
    const reason = document.createElement("div");
    reason.className = "none";
    reason.textContent = item[FAILURE] ?? "no picture";
    tile.append(reason);
  }
  const name = document.createElement("b"), says = document.createElement("small");
  name.textContent = item[NAME];
  const error = item[ERROR] === null ? item[KIND] : `error ${(100 * item[ERROR]).toFixed(2)} %`;
  says.textContent = item[FAILURE] === null ? `${error} · ${item[SECONDS].toFixed(1)} s` : "failed";
  tile.append(name, says);
  return tile;
}

let asked = false;
function soon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
  });
}

for (const control of [sort, show]) control.addEventListener("change", () => (window.scrollTo(0, 0), choose()));
search.addEventListener("input", () => (window.scrollTo(0, 0), choose()));
window.addEventListener("scroll", soon, { passive: true });
window.addEventListener("resize", soon);
choose();
document.documentElement.dataset.state = "drawn";
