// Undo and redo without limit, and a canvas that outlives a reload. A step keeps what was and what is: the label map of a window of it, or the
// whole map where its size changed, and the settings where they changed.

class Steps {
  constructor() { this.done = []; this.undone = []; }

  push(step) { this.done.push(step); this.undone = []; }

  // Steps are applied by `apply(step, "before" | "after")`.
  undo(apply) { const step = this.done.pop(); if (step) { this.undone.push(step); apply(step, "before"); } return Boolean(step); }

  redo(apply) { const step = this.undone.pop(); if (step) { this.done.push(step); apply(step, "after"); } return Boolean(step); }
}

// The window in which two maps of one size differ; null where they do not.
function changedWindow(before, map) {
  const { ids, width, height } = map;
  let top = -1, bottom = -1, left = width, right = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0, at = y * width; x < width; x++, at++) {
      if (ids[at] !== before[at]) {
        if (top < 0) top = y;
        bottom = y;
        if (x < left) left = x;
        if (x > right) right = x;
      }
    }
  }
  return top < 0 ? null : { top, left, height: bottom - top + 1, width: right - left + 1 };
}

function cut(ids, mapWidth, window) {
  const part = new Uint16Array(window.height * window.width);
  for (let y = 0; y < window.height; y++) {
    const start = (window.top + y) * mapWidth + window.left;
    part.set(ids.subarray(start, start + window.width), y * window.width);
  }
  return part;
}

function paste(map, window, part) {
  for (let y = 0; y < window.height; y++) {
    map.ids.set(part.subarray(y * window.width, (y + 1) * window.width), (window.top + y) * map.width + window.left);
  }
}

// --- What a reload keeps: a record per tab, in the browser's own store -------------------------------------------------------------------

const KEPT_TABS = 20;
const TAB = sessionStorage.getItem("tab") || crypto.randomUUID();
sessionStorage.setItem("tab", TAB);

const store = new Promise((resolve) => {
  const opening = indexedDB.open("paint", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("tabs");
  opening.onsuccess = () => resolve(opening.result);
  opening.onerror = () => resolve(null); // a browser that keeps nothing: the page works all the same
});

async function inStore(mode, act) {
  const database = await store;
  if (!database) return null;
  return new Promise((resolve) => {
    const request = act(database.transaction("tabs", mode).objectStore("tabs"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  });
}

async function keepInStore(record) {
  await inStore("readwrite", (tabs) => tabs.put({ ...record, saved: Date.now() }, TAB));
  const keys = await inStore("readonly", (tabs) => tabs.getAllKeys());
  if (!keys || keys.length <= KEPT_TABS) return;
  const records = await inStore("readonly", (tabs) => tabs.getAll());
  const oldest = keys.map((key, index) => [records[index].saved, key]).sort((a, b) => a[0] - b[0]).slice(0, keys.length - KEPT_TABS);
  for (const [, key] of oldest) await inStore("readwrite", (tabs) => tabs.delete(key));
}
