// The page as a whole: changes and their undoing, the image that follows, variants, panels, files.

const SETTLED = 700, SAVED = 400, VARIANTS = 48, THUMBNAIL = 112, SAYING = 7000;

// --- Changes ----------------------------------------------------------------------------------------------------------------------------------

const steps = new Steps();
const settingsText = () => JSON.stringify(state.settings);

function beginChange() {
  if (state.before) endChange();
  const { ids, height, width } = state.map;
  state.before = { ids: ids.slice(), height, width, settings: settingsText() };
}

// Puts what changed since `beginChange` where undo finds it.
function endChange() {
  const { before, map } = state;
  if (!before) return;
  state.before = null;
  const step = {}, now = settingsText();
  if (before.height !== map.height || before.width !== map.width) {
    step.whole = {
      before: { height: before.height, width: before.width, runs: toRuns(before.ids) },
      after: { height: map.height, width: map.width, runs: toRuns(map.ids) },
    };
  } else {
    const window = changedWindow(before.ids, map);
    if (window) step.part = { window, before: toRuns(cut(before.ids, map.width, window)), after: toRuns(cut(map.ids, map.width, window)) };
  }
  if (before.settings !== now) step.settings = { before: before.settings, after: now };
  if (step.whole || step.part || step.settings) steps.push(step);
  changed(true);
  showHistory();
}

function change(act) {
  beginChange();
  act();
  endChange();
  refresh();
}

function apply(step, side) {
  if (step.whole) {
    const { height, width, runs } = step.whole[side];
    state.map = new LabelMap(height, width, fromRuns(runs, height * width));
    sizeChanged();
  }
  if (step.part) paste(state.map, step.part.window, fromRuns(step.part[side], step.part.window.height * step.part.window.width));
  if (step.settings) state.settings = JSON.parse(step.settings[side]);
  if (state.chosen >= numClasses()) choose(0);
  changed(true);
  refresh();
}

function undo() { cancel(); steps.undo(apply); showHistory(); }
function redo() { cancel(); steps.redo(apply); showHistory(); }

function showHistory() {
  $("#undo").disabled = !steps.done.length;
  $("#redo").disabled = !steps.undone.length;
}

function refresh() {
  coloursChanged();
  showChosen();
  showMix();
  showLook();
  showList(true);
  showNear();
}

// --- The label map on the screen ----------------------------------------------------------------------------------------------------------------

const colours = new Uint32Array(65536); // of every id, as the bytes of an image have them
let shownLabels = null;

function coloursChanged() {
  colours.fill(0); // no class: nothing
  for (let id = 0; id < numClasses(); id++) {
    const [red, green, blue] = rgbOf(id);
    colours[id] = (255 << 24 | blue << 16 | green << 8 | red) >>> 0;
  }
  drawLabels();
}

function drawLabels() {
  const { height, width, ids } = state.map, pen = $(".labels").getContext("2d");
  if (!shownLabels || shownLabels.width !== width || shownLabels.height !== height) shownLabels = new ImageData(width, height);
  const pixels = new Uint32Array(shownLabels.data.buffer);
  for (let at = 0; at < ids.length; at++) pixels[at] = colours[ids[at]];
  pen.putImageData(shownLabels, 0, 0);
}

function sizeChanged() {
  const { height, width } = state.map;
  for (const sheet of all(".sheet")) { sheet.style.width = `${width}px`; sheet.style.height = `${height}px`; }
  for (const canvas of all(".sheet canvas")) { canvas.width = width; canvas.height = height; }
  fit();
}

let frame = 0;
function painted() {
  changed();
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; drawLabels(); });
}

// --- The image that follows -----------------------------------------------------------------------------------------------------------------------

const image = { edit: 0, sent: -1, shown: -1, waiting: 0, ms: null, failed: "" };
const MOST_WAITING = 2; // the second takes the place of what the server has not begun

// Ask for an image; while one is being made the next is asked for when it comes, but `now` asks at once.
function changed(now = false) {
  image.edit++;
  request(now);
  showStatus();
  settle();
}

const wireSettings = () => ({ tab: TAB, height: state.map.height, width: state.map.width, ...state.settings });
const wirePainting = () => pack(wireSettings(), state.map.ids);

async function request(now = false) {
  if (image.sent === image.edit || image.waiting >= (now ? MOST_WAITING : 1)) return;
  const mine = image.sent = image.edit;
  image.waiting++;
  try {
    const made = await unpack(await post("image", wirePainting()));
    if (made && mine > image.shown) {
      image.shown = mine;
      image.ms = made.about.ms;
      image.failed = "";
      showImage(made.about.height, made.about.width, new Uint8Array(made.rest));
    }
  } catch (error) {
    if (mine > image.shown) {
      image.failed = error.message;
      image.shown = mine;
      say(error.message);
    }
  } finally {
    image.waiting--;
    showStatus();
    request();
  }
}

function showImage(height, width, rgb) {
  if (height !== state.map.height || width !== state.map.width) return;
  const picture = new ImageData(width, height), { data } = picture;
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    data[to] = rgb[from];
    data[to + 1] = rgb[from + 1];
    data[to + 2] = rgb[from + 2];
    data[to + 3] = 255;
  }
  for (const canvas of all("canvas.image")) canvas.getContext("2d").putImageData(picture, 0, 0);
  settle();
}

function showStatus() {
  const behind = image.shown !== image.edit, status = $("#status");
  status.classList.toggle("late", behind || Boolean(image.failed));
  status.title = image.failed || (behind ? "the image is behind the canvas" : "milliseconds that the generator took");
  $("span", status).textContent = image.failed ? "no image" : image.ms === null ? "…" : `${image.ms < 10 ? image.ms : Math.round(image.ms)} ms`;
}

// Once nothing has changed for a moment: shares, variants, command, and what a reload keeps.
let settling = 0, counting = 0, saving = 0;

function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    if (stroke || state.before || image.shown !== image.edit) return; // the next image or stroke comes here again
    if (!image.failed) addVariant(false);
    if (state.tab === "take") showCommand();
  }, SETTLED);
  if (!counting) counting = setTimeout(countClasses, 150);
  saveSoon();
}

function countClasses() {
  counting = 0;
  const counts = new Map(), { ids } = state.map;
  for (let start = 0; start < ids.length;) {
    let end = start + 1;
    while (end < ids.length && ids[end] === ids[start]) end++;
    counts.set(ids[start], (counts.get(ids[start]) || 0) + end - start);
    start = end;
  }
  state.counts = counts;
  showChosen();
  showList(true);
}

function saveSoon() {
  clearTimeout(saving);
  if (state.map) saving = setTimeout(save, SAVED);
}

const packedMap = () => ({ height: state.map.height, width: state.map.width, runs: toRuns(state.map.ids) });

function save() {
  clearTimeout(saving);
  const { settings, chosen, recent, size, view: shown, styleNames } = state;
  return keepInStore({ of: origin(), map: packedMap(), settings, chosen, recent, size, view: shown, styleNames, variants });
}

const origin = () => `${state.about.run} ${state.about.dataset} ${state.about.names.length}`;

// --- Variants -----------------------------------------------------------------------------------------------------------------------------------

let variants = []; // oldest first

function signature() {
  let hash = 2166136261;
  for (const id of state.map.ids) hash = Math.imul(hash ^ id, 16777619);
  return `${state.map.height} ${state.map.width} ${hash} ${settingsText()}`;
}

function addVariant(kept) {
  const of = signature(), found = variants.find((variant) => variant.of === of);
  if (found) found.kept = found.kept || kept;
  else {
    const picture = $("#pane-image canvas"), scale = Math.min(1, THUMBNAIL / picture.height);
    const small = element("canvas", { width: Math.max(1, picture.width * scale), height: Math.max(1, picture.height * scale) });
    small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
    variants.push({ of, kept, map: packedMap(), settings: settingsText(), picture: small.toDataURL("image/webp", 0.85) });
    while (variants.length > VARIANTS) variants.splice(Math.max(0, variants.findIndex((variant) => !variant.kept)), 1);
  }
  showVariants(of, !found);
  saveSoon();
}

function keep() {
  if (image.shown !== image.edit || image.failed) return say("the image is not there yet");
  addVariant(true);
  say("kept");
}

function showVariants(current, scroll = false) {
  const rows = variants.map((variant, index) => {
    const button = element("button", { title: `variant ${index + 1}${variant.kept ? ", kept" : ""}` }, element("img", { src: variant.picture, alt: `variant ${index + 1}` }));
    button.setAttribute("aria-current", variant.of === current);
    button.onclick = () => {
      change(() => {
        const { height, width, runs } = variant.map;
        setMap(new LabelMap(height, width, fromRuns(runs, height * width)));
        state.settings = JSON.parse(variant.settings);
        if (state.chosen >= numClasses()) choose(0);
      });
      showVariants(variant.of);
    };
    return element("li", {}, button);
  });
  $("#gallery ol").replaceChildren(...rows);
  if (scroll && rows.length) $("#gallery ol").scrollLeft = 1e6;
}

// --- Where a painting starts ----------------------------------------------------------------------------------------------------------------------

function setMap(map) {
  const resized = !state.map || state.map.height !== map.height || state.map.width !== map.width;
  state.map = map;
  if (resized) sizeChanged();
  drawLabels();
}

// A painting from the server. Its mixes join those that are here.
function load({ about, rest }) {
  change(() => {
    const ids = new Uint16Array(rest), base = state.about.names.length, moved = new Map();
    about.mixes.forEach(({ name, parts }, index) => {
      const now = parts.map(([weight, id]) => [weight, moved.get(id) ?? id]);
      let at = state.settings.mixes.findIndex((mix) => mix.name === name && JSON.stringify(mix.parts) === JSON.stringify(now));
      if (at < 0) at = state.settings.mixes.push({ name: freeName(name), parts: now }) - 1;
      moved.set(base + index, base + at);
    });
    if (moved.size) ids.forEach((id, at) => { if (moved.has(id)) ids[at] = moved.get(id); });
    if (about.style.start !== 0 || about.style.end !== null) state.settings.style = about.style;
    if (about.noise) state.settings.noise = about.noise;
    for (const [id, seed] of Object.entries(about.redrawn)) state.settings.redrawn[moved.get(Number(id)) ?? id] = seed;
    setMap(new LabelMap(about.height, about.width, ids));
  });
  fit();
}

const layout = async (index) => load(await unpack(await ask(`layouts/${index}`)));

let layoutsShown = 0;
async function showLayouts() {
  const { names, total } = await getJson(`layouts?first=${layoutsShown}`);
  names.forEach((name, offset) => {
    const index = layoutsShown + offset;
    const button = element("button", { title: name }, element("img", { src: `layouts/${index}/picture`, alt: name, loading: "lazy" }));
    button.onclick = () => attempt(() => layout(index));
    $("#layouts").append(button);
  });
  layoutsShown += names.length;
  $("#more").hidden = layoutsShown >= total;
}

function setUpStart() {
  const { multiple, size, one_size: oneSize, max_pixels: most } = state.about;
  for (const [side, trained] of [["height", size[0]], ["width", size[1]]]) {
    const select = $(`#${side}`), lengths = new Set([trained]);
    for (let length = multiple; length <= 2048 && length * multiple <= most; length += length < 512 ? multiple : 4 * multiple) lengths.add(length);
    const options = oneSize ? [trained] : [...lengths].sort((a, b) => a - b);
    select.append(...options.map((length) => element("option", { value: length, textContent: length, selected: length === trained })));
    select.disabled = oneSize;
  }
  $("#empty-note").textContent = oneSize ? "A generator with style makes images of one size." : `Both sides are multiples of ${multiple}; ${size.join("×")} as trained. The canvas is filled with the chosen class.`;
  $("#empty").onclick = () => {
    const height = Number($("#height").value), width = Number($("#width").value);
    if (height * width > most) return say(`a canvas may have ${most} pixels; start the server with more --max_pixels`);
    change(() => setMap(new LabelMap(height, width, new Uint16Array(height * width).fill(state.chosen))));
    return fit();
  };
  $("#open-labels").onclick = () => openFile(".png,.mat", (file) => bring(file, "labels"));
  $("#open-photo").onclick = () => openFile("image/*", (file) => bring(file, "photo"));
  $("#open-photo").disabled = !state.about.photos;
  $("#files-note").textContent = `Or drop it on the page. Label maps are read by the rule of ${state.about.dataset}${state.about.photos ? "; a photo becomes one by the segmenter." : ". Photos need a segmenter: start the server with --segmenter RUN."}`;
  $("#layouts-note").textContent = state.about.layouts ? "" : `None here: ${state.about.no_layouts}`;
  $("#more").hidden = true;
  $("#more").onclick = () => attempt(showLayouts);
}

function openFile(accept, act) {
  const input = $("#file");
  input.accept = accept;
  input.value = "";
  input.onchange = () => { if (input.files[0]) attempt(() => act(input.files[0])); };
  input.click();
}

async function bring(file, kind) {
  if (kind === "photo") say(`the segmenter looks at ${file.name} …`, 200000);
  load(await unpack(await post(`${kind}?name=${encodeURIComponent(file.name)}`, file)));
  say(`started from ${file.name}`);
}

// A picture that is dropped: a label map if it is one, else a photo; on the style panel, a style.
async function dropped(file) {
  if (state.about.style && state.tab === "look") return bringStyle(file, "start");
  const mayBeLabels = /\.(png|mat)$/i.test(file.name);
  try {
    return await bring(file, mayBeLabels || !state.about.photos ? "labels" : "photo");
  } catch (error) {
    if (mayBeLabels && state.about.photos && error.message.includes("colour picture")) return bring(file, "photo");
    throw error;
  }
}

function setUpDrop() {
  const stage = document.body;
  addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) attempt(() => dropped(file));
  });
}

// --- Style and noise ----------------------------------------------------------------------------------------------------------------------------

const draw = () => Math.floor(Math.random() * 1e6);
const seedShown = (value) => typeof value === "number" ? String(value) : "";
const styleName = (value) => typeof value === "string" ? state.styleNames[value] || "an image" : `seed ${value}`;

function showLook() {
  const { style, noise, redrawn } = state.settings, { about } = state;
  $("#style-part").hidden = !about.style;
  $("#noise-part").hidden = !about.noise;
  $("#look-note").textContent = about.style || about.noise ? "" : "This generator makes one image of a layout. Trained with --generator.style_dim 256 or --generator.noise_channels 64 it makes many.";
  const fields = { "style-seed": style.start, "end-seed": style.end, "noise-seed": noise };
  for (const [id, value] of Object.entries(fields)) if (document.activeElement !== $(`#${id}`)) $(`#${id}`).value = seedShown(value);
  $("#style-said").textContent = style.end === null ? `Style of ${styleName(style.start)}.` : `From ${styleName(style.start)} to ${styleName(style.end)}, step ${style.step} of ${style.steps - 1}.`;
  $("#style-step").parentElement.hidden = $("#end-none").hidden = style.end === null;
  $("#style-step").max = style.steps - 1;
  $("#style-step").value = style.step;
  const ids = Object.keys(redrawn);
  $("#redraw").textContent = `draw ${nameOf(state.chosen).slice(0, 24)} again`;
  $("#redraw-none").hidden = !ids.length;
  $("#redraw-said").textContent = ids.length ? `Drawn again: ${ids.map((id) => nameOf(Number(id))).join(", ")}.` : "";
}

async function bringStyle(file, end) {
  const { key } = await (await post(`style?name=${encodeURIComponent(file.name)}`, file)).json();
  state.styleNames[key] = file.name;
  change(() => { state.settings.style[end] = key; });
}

function setUpLook() {
  const set = {
    "style-seed": (value) => { state.settings.style.start = value ?? 0; },
    "end-seed": (value) => { state.settings.style.end = value; },
    "noise-seed": (value) => { state.settings.noise = value ?? 0; state.settings.redrawn = {}; },
  };
  for (const [id, act] of Object.entries(set)) {
    $(`#${id}`).onchange = (event) => {
      const text = event.target.value.trim();
      if (!/^\d{0,15}$/.test(text)) { say("a seed is a whole number"); return showLook(); }
      return change(() => act(text ? Number(text) : null));
    };
    $(`[data-dice=${id}]`).onclick = () => { if (!$(`#${id}`).closest("[hidden]")) change(() => act(draw())); };
  }
  $("#style-image").onclick = () => openFile("image/*", (file) => bringStyle(file, "start"));
  $("#end-image").onclick = () => openFile("image/*", (file) => bringStyle(file, "end"));
  $("#end-none").onclick = () => change(() => Object.assign(state.settings.style, { end: null, step: 0 }));
  $("#style-step").oninput = (event) => {
    if (!state.before) beginChange();
    state.settings.style.step = Number(event.target.value);
    showLook();
    changed();
  };
  $("#style-step").onchange = () => endChange();
  $("#redraw").onclick = () => { if (state.chosen !== IGNORED) change(() => { state.settings.redrawn[state.chosen] = draw(); }); };
  $("#redraw-none").onclick = () => change(() => { state.settings.redrawn = {}; });
}

// --- Taking it away -----------------------------------------------------------------------------------------------------------------------------

async function showCommand() {
  try {
    $("#command").textContent = await (await post("take/command", wirePainting())).text();
  } catch (error) {
    $("#command").textContent = error.message;
  }
}

async function take(what) {
  const reply = await post(`take/${what}`, wirePainting());
  const name = /filename="([^"]+)"/.exec(reply.headers.get("Content-Disposition") || "")?.[1] || what;
  const link = element("a", { href: URL.createObjectURL(await reply.blob()), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30000);
}

function setUpTake() {
  for (const button of all("[data-take]")) button.onclick = () => attempt(() => take(button.dataset.take));
  $("#copy").onclick = () => attempt(async () => { await navigator.clipboard.writeText($("#command").textContent); say("copied"); });
}

// --- Panels, messages, view -----------------------------------------------------------------------------------------------------------------------

let saying = 0;
function say(text, time = SAYING) {
  const box = $("#message");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => { box.hidden = true; }, time);
}

async function attempt(act) {
  try { await act(); } catch (error) { say(error.message); }
}

function setTab(name) {
  state.tab = name;
  all("[data-tab]").forEach((button) => button.setAttribute("aria-selected", button.dataset.tab === name));
  all("[data-panel]").forEach((panel) => { panel.hidden = panel.dataset.panel !== name; });
  if (name === "classes") showList(true);
  if (name === "map") drawMap();
  if (name === "start" && !layoutsShown && state.about.layouts) attempt(showLayouts);
  if (name === "take") showCommand();
}

function setView(name) {
  state.view = name;
  $("#stage").dataset.shown = document.body.dataset.shown = name;
  all("[data-view]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.view === name));
  $(".labels").style.opacity = name === "over" ? $("#opacity").value / 100 : 1;
  fit();
  saveSoon();
}

function setUpControls() {
  for (const button of all("[data-tool]")) button.onclick = () => setTool(button.dataset.tool);
  for (const button of all("[data-tab]")) button.onclick = () => setTab(button.dataset.tab);
  for (const button of all("[data-view]")) button.onclick = () => setView(button.dataset.view);
  const { vectors } = state.about;
  for (const name of ["mix", "map"]) {
    const tab = $(`[data-tab=${name}]`);
    tab.disabled = !vectors;
    if (!vectors) tab.title = "Needs class vectors; this generator knows its classes as one-hot.";
  }
  $("nav").onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], tabs = all("[data-tab]:not(:disabled)");
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    next.focus();
    setTab(next.dataset.tab);
  };
  $("#undo").onclick = undo;
  $("#redo").onclick = redo;
  $("#keep").onclick = keep;
  $("#zoom-in").onclick = () => zoom(1.25);
  $("#zoom-out").onclick = () => zoom(0.8);
  $("#zoom-fit").onclick = fit;
  $("#opacity").oninput = () => setView("over");
  $("#size").oninput = (event) => setSize(Number(event.target.value));
  $("#help-open").onclick = () => $("#help").showModal();
  $("#help dl").append(...KEYS.flatMap(([keys, what]) => [element("dt", { textContent: keys }), element("dd", { textContent: what })]));
  new ResizeObserver(fit).observe($("#stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  addEventListener("pagehide", () => { if (state.map) save(); });
}

async function start() {
  const about = state.about = await getJson("about");
  document.title = `${about.run}: paint with classes`;
  $("#about").textContent = `${about.run} · ${about.dataset} · ${about.names.length} classes · ${about.semantics} · ${about.device}`;
  setUpControls();
  setUpSearch();
  setUpMap();
  setUpMix();
  setUpStart();
  setUpDrop();
  setUpLook();
  setUpTake();
  setUpPointers();
  setUpKeys();
  setSize(Math.max(3, Math.round(Math.min(...about.size) / 10)));
  setTool("brush");
  const kept = await inStore("readonly", (tabs) => tabs.get(TAB));
  if (kept && kept.of === origin()) {
    Object.assign(state, { settings: kept.settings, chosen: kept.chosen, recent: kept.recent, styleNames: kept.styleNames });
    variants = kept.variants;
    setSize(kept.size);
    state.map = new LabelMap(kept.map.height, kept.map.width, fromRuns(kept.map.runs, kept.map.height * kept.map.width));
  } else {
    const { about: first, rest } = about.layouts ? await unpack(await ask("layouts/0")) : { about: { height: about.size[0], width: about.size[1] } };
    state.map = new LabelMap(first.height, first.width, new Uint16Array(rest || new Uint16Array(first.height * first.width).buffer));
  }
  coloursChangedAtStart();
  setView(kept?.view || "both");
  setTab("classes");
  countClasses();
  refresh();
  showHistory();
  showVariants("");
  changed(true);
}

function coloursChangedAtStart() {
  sizeChanged();
  coloursChanged();
}

attempt(start);
