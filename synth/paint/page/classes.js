// The classes: names and colours, search among any number of them, which are near, the map, and mixes. Ids from about.names.length on are mixes.

const $ = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const state = {
  about: null, map: null, chosen: 0, recent: [], counts: new Map(), tool: "brush", size: 6, view: "both",
  settings: { mixes: [], style: { start: 0, end: null, steps: 11, step: 0 }, noise: 0, redrawn: {} },
  styleNames: {},
};

const ROW = 30, NEAR_SHOWN = 6, RECENT_KEPT = 6, MIX_PARTS = 3;
const numClasses = () => state.about.names.length + state.settings.mixes.length;
const isMix = (id) => id >= state.about.names.length && id < numClasses();

function nameOf(id) {
  if (id === IGNORED) return "no class";
  return isMix(id) ? state.settings.mixes[id - state.about.names.length].name : state.about.names[id];
}

// [red, green, blue]; a mix has the mean of its parts, by weight.
function rgbOf(id) {
  if (id < state.about.names.length) return [0, 2, 4].map((at) => parseInt(state.about.colours.slice(6 * id + at, 6 * id + at + 2), 16));
  if (!isMix(id)) return [128, 128, 128];
  const { parts } = state.settings.mixes[id - state.about.names.length];
  const total = parts.reduce((sum, [weight]) => sum + Math.abs(weight), 0) || 1;
  const mean = [0, 1, 2].map((channel) => parts.reduce((sum, [weight, part]) => sum + Math.abs(weight) / total * rgbOf(part)[channel], 0));
  return mean.map((value, channel) => Math.round(0.75 * value + 0.25 * [255, 120, 200][(channel + id) % 3]));
}

const cssOf = (id) => `rgb(${rgbOf(id).join(" ")})`;

function swatch(id) {
  const made = element("i", { className: "swatch" });
  if (id !== IGNORED) made.style.background = cssOf(id);
  return made;
}

function chip(id) {
  const made = element("button", { title: nameOf(id) }, swatch(id), element("span", { className: "name", textContent: nameOf(id) }));
  made.onclick = () => choose(id);
  return made;
}

function choose(id) {
  if (state.chosen !== id) state.recent = [id, ...state.recent.filter((other) => other !== id)].slice(0, RECENT_KEPT + 1);
  state.chosen = id;
  if (state.tool === "eraser" || state.tool === "pick") setTool("brush");
  showChosen();
  showNear();
  drawList();
  drawMap();
  showMix();
  showLook();
  saveSoon();
}

function share(id) {
  const pixels = state.counts.get(id) || 0;
  if (!pixels || !state.map) return "";
  const percent = 100 * pixels / state.map.ids.length;
  return percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

function showChosen() {
  const [mark, text] = $("#chosen").children;
  mark.replaceWith(swatch(state.chosen));
  $("strong", text).textContent = nameOf(state.chosen);
  const covered = share(state.chosen), kind = isMix(state.chosen) ? "mix" : `class ${state.chosen}`;
  $("small", text).textContent = covered ? `${kind}, ${covered} of the canvas` : `${kind}, not on the canvas`;
}

// --- Search -------------------------------------------------------------------------------------------------------------------------------

const list = { ids: [], active: 0 };

function searched() {
  const words = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const ids = [...Array(numClasses()).keys()];
  if (!words.length) { // what is on the canvas comes first, by its share
    return ids.sort((a, b) => (state.counts.get(b) || 0) - (state.counts.get(a) || 0) || Number(isMix(b)) - Number(isMix(a)) || a - b);
  }
  const rank = (id) => {
    const name = nameOf(id).toLowerCase();
    if (!words.every((word) => name.includes(word) || String(id) === word)) return -1;
    return name === words.join(" ") ? 0 : name.startsWith(words[0]) ? 1 : name.split(/[^\p{L}\p{N}]+/u).some((part) => part.startsWith(words[0])) ? 2 : 3;
  };
  return ids.map((id) => [rank(id), id]).filter(([order]) => order >= 0).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, id]) => id);
}

function showList(keepActive = false) {
  list.ids = searched();
  if (!keepActive) { list.active = 0; $("#list").scrollTop = 0; }
  $("#list > div").style.height = `${ROW * list.ids.length}px`;
  $("#count").textContent = $("#search").value.trim() ? `${list.ids.length} of ${numClasses()} classes` : `${numClasses()} classes`;
  drawList();
}

// Only the rows that are in sight exist.
function drawList() {
  const box = $("#list"), first = Math.max(0, Math.floor(box.scrollTop / ROW) - 3), last = Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 3;
  const rows = list.ids.slice(first, last).map((id, offset) => {
    const place = first + offset, row = element("div", { className: "class", id: `class-${id}` });
    row.append(swatch(id), element("span", { className: "name", textContent: nameOf(id), title: nameOf(id) }), element("em", { textContent: share(id) }));
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", place === list.active && document.activeElement === $("#search"));
    row.setAttribute("aria-current", id === state.chosen);
    row.setAttribute("aria-setsize", list.ids.length);
    row.setAttribute("aria-posinset", place + 1);
    row.style.top = `${ROW * place}px`;
    row.onclick = () => choose(id);
    return row;
  });
  $("div", box).replaceChildren(...rows);
  if (list.ids.length) $("#search").setAttribute("aria-activedescendant", `class-${list.ids[list.active]}`);
  $("#recent").replaceChildren(...chips("recent", state.recent.filter((id) => id !== state.chosen).slice(0, RECENT_KEPT)));
}

function chips(title, ids) {
  return ids.length ? [element("div", { className: "chips" }, element("span", { textContent: title }), ...ids.map(chip))] : [];
}

function setUpSearch() {
  const search = $("#search"), box = $("#list");
  search.oninput = () => showList();
  search.onfocus = search.onblur = drawList;
  box.onscroll = drawList;
  new ResizeObserver(drawList).observe(box);
  search.onkeydown = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (steps) {
      list.active = Math.max(0, Math.min(list.ids.length - 1, list.active + steps));
      const top = ROW * list.active;
      if (top < box.scrollTop) box.scrollTop = top;
      if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
      drawList();
    } else if (event.key === "Enter" && list.ids.length) {
      choose(list.ids[list.active]);
      search.select();
    } else if (event.key === "Escape") {
      search.value = "";
      showList();
      $("#pane-labels").focus();
    } else return;
    event.preventDefault();
  };
}

// --- Near classes and the map ---------------------------------------------------------------------------------------------------------------

const neighbours = new Map();
let places = null;

async function showNear() {
  const id = state.chosen, box = $("#near");
  if (isMix(id)) return box.replaceChildren(...chips("mixed of", state.settings.mixes[id - state.about.names.length].parts.map(([, part]) => part)));
  if (!state.about.vectors || id === IGNORED) return box.replaceChildren();
  if (!neighbours.has(id)) {
    try {
      neighbours.set(id, (await getJson(`near/${id}`)).near);
    } catch (error) { return say(error.message); }
  }
  if (id !== state.chosen) return;
  box.replaceChildren(...chips("near", neighbours.get(id).slice(0, NEAR_SHOWN).map(([other]) => other)));
  drawMap();
}

async function drawMap() {
  const canvas = $("#map"), side = Math.round(canvas.clientWidth * devicePixelRatio);
  if (!state.about.vectors || !side) return;
  if (!places) {
    places = [];
    try { places = (await getJson("map")).places; } catch (error) { say(error.message); }
  }
  canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d"), edge = 0.07 * side, unit = devicePixelRatio, styles = getComputedStyle(document.body);
  const at = (id) => [edge + places[id][0] / state.about.map_side * (side - 2 * edge), edge + (1 - places[id][1] / state.about.map_side) * (side - 2 * edge)];
  canvas.at = at;
  const dot = (id, radius, ring) => {
    pen.beginPath();
    pen.arc(...at(id), radius * unit, 0, 7);
    pen.fillStyle = cssOf(id);
    pen.fill();
    pen.lineWidth = (ring ? 2.5 : 0.6) * unit;
    pen.strokeStyle = ring || styles.color;
    pen.stroke();
  };
  const accent = styles.getPropertyValue("--accent"), near = (neighbours.get(state.chosen) || []).slice(0, NEAR_SHOWN);
  if (state.chosen < places.length) {
    pen.strokeStyle = accent;
    pen.lineWidth = 1.5 * unit;
    for (const [other] of near) { pen.beginPath(); pen.moveTo(...at(state.chosen)); pen.lineTo(...at(other)); pen.stroke(); }
  }
  const radius = places.length > 2000 ? 1.6 : places.length > 300 ? 2.5 : 5;
  places.forEach((_, id) => dot(id, radius));
  for (const [other] of near) dot(other, radius + 1, accent);
  if (state.chosen < places.length) dot(state.chosen, radius + 3, accent);
  pen.font = `${11 * unit}px ${styles.fontFamily}`;
  pen.fillStyle = styles.color;
  const taken = [];
  const named = places.length <= 40 ? [...places.keys()] : near.map(([other]) => other);
  for (const id of new Set(state.chosen < places.length ? [state.chosen, ...named] : named)) { // names where there is room
    const name = nameOf(id).slice(0, 22), [x, y] = at(id), width = pen.measureText(name).width;
    for (const [left, top] of [[x + 8 * unit, y + 4 * unit], [x - width - 8 * unit, y + 4 * unit], [x - width / 2, y - 9 * unit], [x - width / 2, y + 17 * unit]]) {
      const box = [left - 2, top - 11 * unit, left + width + 2, top + 3 * unit];
      const free = box[0] > 0 && box[2] < side && box[1] > 0 && box[3] < side && !taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3]);
      if (free) { taken.push(box); pen.fillText(name, left, top); break; }
    }
  }
}

function setUpMap() {
  const canvas = $("#map");
  const nearestTo = (event) => {
    if (!places || !canvas.at) return null;
    const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) * devicePixelRatio, y = (event.clientY - box.top) * devicePixelRatio;
    let best = null, least = (30 * devicePixelRatio) ** 2;
    places.forEach((_, id) => {
      const [px, py] = canvas.at(id), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) { least = distance; best = id; }
    });
    return best;
  };
  canvas.onpointermove = (event) => { const id = nearestTo(event); $("#map-under").textContent = id === null ? "" : nameOf(id); };
  canvas.onclick = (event) => { const id = nearestTo(event); if (id !== null) choose(id); };
  canvas.onkeydown = (event) => { // to the nearest class in a direction
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way || !places || !canvas.at) return;
    event.preventDefault();
    const [x, y] = canvas.at(state.chosen < places.length ? state.chosen : 0);
    const ahead = [...places.keys()].map((id) => {
      const [px, py] = canvas.at(id), along = (px - x) * way[0] + (py - y) * way[1], beside = Math.abs((px - x) * way[1]) + Math.abs((py - y) * way[0]);
      return [along > 0 ? along + 2 * beside : Infinity, id];
    }).sort((a, b) => a[0] - b[0])[0];
    if (ahead && ahead[0] < Infinity) choose(ahead[1]);
  };
  new ResizeObserver(drawMap).observe(canvas);
}

// --- Mixes ----------------------------------------------------------------------------------------------------------------------------------

let gathered = []; // classes of a mix that has one part so far

function mixed() { return isMix(state.chosen) ? state.settings.mixes[state.chosen - state.about.names.length] : null; }

function showMix() {
  const mix = mixed(), parts = mix ? mix.parts : gathered.map((id) => [1, id]);
  const total = parts.reduce((sum, [weight]) => sum + Math.abs(weight), 0) || 1;
  $("#mixes").replaceChildren(...chips("mixes", state.settings.mixes.map((_, index) => state.about.names.length + index)));
  $("#parts").replaceChildren(...parts.map(([weight, id], index) => {
    const slider = element("input", { type: "range", min: -1, max: 1, step: 0.05, value: weight, disabled: !mix });
    slider.setAttribute("aria-label", `weight of ${nameOf(id)}`);
    const shown = element("output", { textContent: mix ? `${Math.round(100 * weight / total)} %` : "" });
    slider.oninput = () => {
      if (!state.before) beginChange();
      mix.parts[index][0] = Number(slider.value);
      const now = mix.parts.reduce((sum, [other]) => sum + Math.abs(other), 0) || 1;
      all("#parts output").forEach((output, at) => { output.textContent = `${Math.round(100 * mix.parts[at][0] / now)} %`; });
      coloursChanged();
      changed();
    };
    slider.onchange = () => endChange();
    const away = element("button", { textContent: "×", title: `Take ${nameOf(id)} out`, disabled: Boolean(mix) && parts.length < 2 });
    away.onclick = () => {
      if (!mix) { gathered = []; return showMix(); }
      change(() => mix.parts.splice(index, 1));
    };
    return element("div", { className: "part" }, swatch(id), element("span", { className: "name", textContent: nameOf(id) }), shown, away, slider);
  }));
  const add = $("#mix-add"), candidate = candidateForMix();
  add.disabled = candidate === null || parts.length >= MIX_PARTS;
  add.textContent = candidate === null ? "choose a class to add" : parts.length >= MIX_PARTS ? "three parts are the most" : `${parts.length ? "add" : "begin with"} ${nameOf(candidate).slice(0, 24)}`;
  $("#mix-name").parentElement.hidden = !mix;
  if (mix && document.activeElement !== $("#mix-name")) $("#mix-name").value = mix.name;
  $("#mix-new").hidden = !mix && !gathered.length;
}

// The last class that was chosen and is no part yet.
function candidateForMix() {
  const mix = mixed(), parts = mix ? mix.parts.map(([, id]) => id) : gathered, limit = mix ? state.chosen : numClasses();
  const fits = (id) => id < limit && id !== IGNORED && !parts.includes(id);
  return [state.chosen, ...state.recent].find(fits) ?? null;
}

function setUpMix() {
  $("#mix-add").onclick = () => {
    const id = candidateForMix(), mix = mixed();
    if (id === null) return;
    if (mix) return change(() => mix.parts.push([0.5, id]));
    gathered.push(id);
    if (gathered.length < 2) return showMix();
    if (state.settings.mixes.length >= state.about.most_mixes) return say(`there are ${state.about.most_mixes} mixes, and no room for more`);
    change(() => state.settings.mixes.push({ name: freeName(gathered.map(nameOf).join(" + ")), parts: gathered.map((part) => [0.5, part]) }));
    gathered = [];
    choose(numClasses() - 1);
    showList(true);
  };
  $("#mix-new").onclick = () => {
    gathered = [];
    if (mixed()) choose(mixed().parts[0][1]);
    showMix();
  };
  $("#mix-name").onchange = () => {
    const mix = mixed(), name = $("#mix-name").value.replace(/[;=\n\r]/g, " ").trim();
    if (!mix || !name || name === mix.name) return showMix();
    change(() => { mix.name = freeName(name); });
    showChosen();
    showList(true);
  };
}

// A name that no other class has, without the signs that have a meaning in a mix.
function freeName(wanted) {
  const base = wanted.replace(/[;=]/g, " ").trim().slice(0, 70), taken = new Set([...state.about.names, ...state.settings.mixes.map((mix) => mix.name)]);
  if (!taken.has(base)) return base;
  for (let number = 2; ; number++) if (!taken.has(`${base} ${number}`)) return `${base} ${number}`;
}
