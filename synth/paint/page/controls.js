// Tools under mouse, pen, touch and keyboard; zoom and pan. Points of the canvas are [x, y] in pixels of the label map.

const view = { scale: 1, x: 0, y: 0 };
const pointers = new Map();
let stroke = null; // { tool, id, points, before }
let corners = [];  // of a polygon that is not closed
let cursor = null; // where the pointer or the keyboard's cursor is
let pinch = null;

const panes = () => all(".pane").filter((pane) => pane.offsetParent !== null);

function setTool(tool) {
  finishStroke();
  if (tool !== "polygon") corners = [];
  state.tool = tool;
  all("[data-tool]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.tool === tool));
  all(".pane").forEach((pane) => pane.classList.toggle("panning", tool === "pan"));
  drawGhost();
}

function setSize(size) {
  state.size = Math.max(1, Math.min(64, size));
  $("#size").value = state.size;
  $("#size-text").textContent = `${state.size} px`;
  drawGhost();
}

// --- Where things are -----------------------------------------------------------------------------------------------------------------------

function place() {
  for (const sheet of all(".sheet")) sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  drawGhost();
}

function fit() {
  if (!state.map) return;
  const stage = $("#stage"), { height, width } = state.map;
  const scaleFor = (w, h) => Math.min((w - 24) / width, (h - 24) / height), W = stage.clientWidth, H = stage.clientHeight;
  stage.classList.toggle("stack", state.view === "both" && scaleFor(W, H / 2) > scaleFor(W / 2, H));
  const { clientWidth, clientHeight } = panes()[0];
  view.scale = Math.max(0.05, scaleFor(clientWidth, clientHeight));
  view.x = (clientWidth - width * view.scale) / 2;
  view.y = (clientHeight - height * view.scale) / 2;
  place();
}

// Zoom so that the point of the pane at (x, y) stays where it is.
function zoom(factor, x = panes()[0].clientWidth / 2, y = panes()[0].clientHeight / 2) {
  const scale = Math.max(0.05, Math.min(80, view.scale * factor)), ratio = scale / view.scale;
  view.x = x - (x - view.x) * ratio;
  view.y = y - (y - view.y) * ratio;
  view.scale = scale;
  place();
}

function inPane(event, pane) {
  const box = pane.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

const onCanvas = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

// --- Strokes --------------------------------------------------------------------------------------------------------------------------------

const DRAWN = ["line", "rectangle"]; // shown while they are drawn, and put down at the end

function begin(point, tool = state.tool) {
  const { map } = state, id = tool === "eraser" ? IGNORED : state.chosen;
  if (tool === "pick") {
    const found = map.at(...point);
    if (found !== null && found !== IGNORED) choose(found);
    return;
  }
  if (tool === "polygon") {
    corners.push(point);
    return drawGhost();
  }
  if (map.at(...point) === null && tool === "fill") return;
  beginChange();
  stroke = { tool, id, start: point, last: point };
  if (tool === "fill") map.fill(point, id);
  if (tool === "brush" || tool === "eraser") map.stroke(point, point, state.size, id);
  painted();
  if (tool === "fill") finishStroke();
}

function continueStroke(point) {
  if (!stroke) return;
  if (!DRAWN.includes(stroke.tool)) {
    state.map.stroke(stroke.last, point, state.size, stroke.id);
    painted();
  }
  stroke.last = point;
  drawGhost();
}

function finishStroke() {
  if (!stroke) return;
  if (stroke.tool === "line") state.map.stroke(stroke.start, stroke.last, state.size, stroke.id);
  if (stroke.tool === "rectangle") state.map.rectangle(stroke.start, stroke.last, stroke.id);
  stroke = null;
  painted();
  endChange();
  drawGhost();
}

function closePolygon() {
  const drawn = corners;
  corners = [];
  if (drawn.length > 2) {
    beginChange();
    state.map.polygon(drawn, state.chosen);
    painted();
    endChange();
  }
  drawGhost();
}

function cancel() {
  corners = [];
  if (stroke) { // as if it had never begun
    state.map.ids.set(state.before.ids);
    stroke = null;
    painted();
    endChange();
  }
  drawGhost();
}

// What the tool would do, over the canvas.
function drawGhost() {
  if (!state.map) return;
  const at = ([x, y]) => `${x * view.scale + view.x} ${y * view.scale + view.y}`;
  const shapes = [];
  const from = stroke && DRAWN.includes(stroke.tool) ? stroke : null;
  if (corners.length) shapes.push(`M${[...corners, ...(cursor ? [cursor] : [])].map(at).join("L")}`);
  if (from && from.tool === "line") shapes.push(`M${at(from.start)}L${at(from.last)}`);
  if (from && from.tool === "rectangle") {
    const [x0, y0] = from.start, [x1, y1] = from.last;
    shapes.push(`M${at([x0, y0])}L${at([x1, y0])}L${at([x1, y1])}L${at([x0, y1])}Z`);
  }
  if (cursor && ["brush", "eraser", "line"].includes(state.tool)) {
    const r = state.size / 2 * view.scale, [x, y] = at(cursor).split(" ").map(Number);
    shapes.push(`M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`);
  } else if (cursor && document.activeElement === $("#pane-labels") && keyboardCursor) {
    const [x, y] = at(cursor).split(" ").map(Number);
    shapes.push(`M${x - 8} ${y}h16M${x} ${y - 8}v16`);
  }
  for (const group of all(".ghost g")) {
    group.replaceChildren(...shapes.map((d) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", d);
      return path;
    }));
  }
  const id = cursor && state.map.at(...cursor), under = $("#under");
  under.textContent = id === null || id === undefined ? "" : `${Math.floor(cursor[0])}, ${Math.floor(cursor[1])}  ${nameOf(id)}`;
}

// --- Pointers -------------------------------------------------------------------------------------------------------------------------------

let keyboardCursor = false, spaceHeld = false;

function setUpPointers() {
  for (const pane of all(".pane")) {
    pane.addEventListener("pointerdown", (event) => {
      if (!state.map || (event.pointerType === "mouse" && event.button > 1)) return;
      $("#pane-labels").focus({ preventScroll: true });
      keyboardCursor = false;
      try { pane.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
      pointers.set(event.pointerId, inPane(event, pane));
      event.preventDefault();
      if (pointers.size === 2) { // a second finger: what the first has begun was no stroke
        cancel();
        pinch = gesture();
      } else if (pointers.size === 1) {
        const panning = state.tool === "pan" || spaceHeld || event.button === 1;
        if (panning) pinch = gesture();
        else begin(onCanvas(inPane(event, pane)), event.altKey ? "pick" : state.tool);
      }
    });
    pane.addEventListener("pointermove", (event) => {
      cursor = onCanvas(inPane(event, pane));
      if (!pointers.has(event.pointerId)) return drawGhost();
      for (const step of event.getCoalescedEvents?.() ?? [event]) {
        pointers.set(event.pointerId, inPane(step, pane));
        if (!pinch) continueStroke(onCanvas(inPane(step, pane)));
      }
      pointers.set(event.pointerId, inPane(event, pane));
      if (pinch) moveBy(gesture());
      else if (stroke) continueStroke(onCanvas(inPane(event, pane)));
      else drawGhost();
    });
    const lift = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (pinch) pinch = pointers.size ? gesture() : null;
      else finishStroke();
    };
    pane.addEventListener("pointerup", lift);
    pane.addEventListener("pointercancel", (event) => { if (pointers.has(event.pointerId)) { cancel(); lift(event); } });
    pane.addEventListener("pointerleave", () => { if (!pointers.size) { cursor = null; drawGhost(); } });
    pane.addEventListener("dblclick", () => { if (state.tool === "polygon") { corners.pop(); closePolygon(); } });
    pane.addEventListener("contextmenu", (event) => event.preventDefault());
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...inPane(event, pane));
    }, { passive: false });
  }
}

// The middle of the pointers and how far they are apart.
function gesture() {
  const points = [...pointers.values()], [a, b = a] = points;
  return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart: Math.hypot(a[0] - b[0], a[1] - b[1]) };
}

function moveBy(now) {
  view.x += now.middle[0] - pinch.middle[0];
  view.y += now.middle[1] - pinch.middle[1];
  if (pinch.apart && now.apart) zoom(now.apart / pinch.apart, ...now.middle);
  else place();
  pinch = now;
}

// --- Keys -----------------------------------------------------------------------------------------------------------------------------------

const KEYS = [
  ["B G L R P E I H", "brush, fill, line, rectangle, polygon, eraser, pick, move"], ["[ ]", "smaller, larger brush"], ["/", "search among the classes"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"], ["Alt and click", "pick the class under the pointer"], ["Space and drag, two fingers", "move; the wheel zooms"],
  ["+ − 0", "zoom, fit"], ["V", "side by side, or layers"], ["K", "keep this variant"], ["N", "draw the noise again"],
  ["arrows, Enter", "on the canvas: move a cursor (Shift: by ten), put the brush down and lift it"], ["Enter, Escape", "close a polygon, give it up"],
];
const TOOL_KEYS = { b: "brush", g: "fill", l: "line", r: "rectangle", p: "polygon", e: "eraser", i: "pick", h: "pan" };

function setUpKeys() {
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=range]), select, textarea, pre"), key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ((event.ctrlKey || event.metaKey) && !typing && (key === "z" || key === "y")) {
      event.preventDefault();
      return key === "y" || event.shiftKey ? redo() : undo();
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
    if (event.target === $("#pane-labels") && cursorKey(event)) return event.preventDefault();
    const act = {
      "[": () => setSize(state.size - 1), "]": () => setSize(state.size + 1), "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit,
      v: () => setView(state.view === "both" ? "over" : "both"), k: keep, n: () => $("[data-dice=noise-seed]").click(), "?": () => $("#help").showModal(),
      "/": () => { setTab("classes"); $("#search").focus(); $("#search").select(); }, Escape: cancel,
    }[key];
    if (TOOL_KEYS[key]) setTool(TOOL_KEYS[key]);
    else if (key === " " && event.target === $("#pane-labels")) spaceHeld = true;
    else if (act) act();
    else return;
    event.preventDefault();
  });
  addEventListener("keyup", (event) => { if (event.key === " ") spaceHeld = false; });
}

// The canvas by keyboard: whether the key was one of its own.
function cursorKey(event) {
  const step = event.shiftKey ? 10 : 1, way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  const { map } = state;
  if (way) {
    keyboardCursor = true;
    const [x, y] = cursor || [map.width / 2, map.height / 2];
    cursor = [Math.max(0.5, Math.min(map.width - 0.5, Math.floor(x + way[0]) + 0.5)), Math.max(0.5, Math.min(map.height - 0.5, Math.floor(y + way[1]) + 0.5))];
    if (stroke) continueStroke(cursor);
    drawGhost();
    return true;
  }
  if (event.key !== "Enter") return false;
  if (!keyboardCursor && state.tool === "polygon" && corners.length) closePolygon();
  else if (!cursor) return false;
  else if (stroke) finishStroke();
  else if (state.tool === "polygon" && corners.length > 2 && String(corners.at(-1)) === String(cursor)) closePolygon();
  else if (state.tool !== "pan") begin(cursor);
  return true;
}
