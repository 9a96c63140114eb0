// The viewer: one picture of a layout, swapped in place with the others, zoomed and moved, with the class under the pointer.
const viewer = document.getElementById("viewer"), stage = viewer.querySelector(".stage"), large = stage.querySelector("img");
const tabs = viewer.querySelector(".tabs"), said = viewer.querySelector(".class");
const classOf = new Map([...document.querySelectorAll("#legend li")].map((entry) => [entry.dataset.colour, entry.textContent.trim()]));
const groups = [...document.querySelectorAll(".pictures")], canvas = document.createElement("canvas");
let group, views = [], at = 0, before = 0, zoom = 1, shift = [0, 0];

function open(image) {
  group = image.closest(".pictures");
  views = [...group.querySelectorAll("img")];
  viewer.querySelector("strong").textContent = group.dataset.name;
  const captions = views.map((view) => view.dataset.caption);
  if (captions.join("\n") !== [...tabs.children].map((button) => button.textContent).join("\n")) tabs.replaceChildren(...captions.map(tab));
  const labels = views.find((view) => "labels" in view.dataset);
  labels.decode().then(() => {
    [canvas.width, canvas.height] = [labels.naturalWidth, labels.naturalHeight];
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(labels, 0, 0);
  });
  before = at = views.indexOf(image);
  show(at);
  if (!viewer.open) viewer.showModal();
  fit();
}

function tab(caption, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = caption;
  button.onclick = () => show(index);
  button.onpointerenter = (event) => { if (event.pointerType === "mouse") show(index); };
  return button;
}

function show(index) {
  if (index !== at) before = at;
  at = (index + views.length) % views.length;
  large.src = views[at].src;
  large.alt = views[at].alt;
  [...tabs.children].forEach((button, place) => button.setAttribute("aria-pressed", String(place === at)));
}

function fit() {
  [zoom, shift] = [1, [0, 0]];
  place();
}

function place() {
  const view = views[at], room = stage.getBoundingClientRect();
  const scale = zoom * Math.min(room.width / view.naturalWidth, room.height / view.naturalHeight);
  large.style.setProperty("--width", `${view.naturalWidth * scale}px`);
  large.style.setProperty("--height", `${view.naturalHeight * scale}px`);
  large.style.transform = `translate(${shift[0]}px, ${shift[1]}px)`;
  large.className = scale >= 3 || view.naturalWidth <= 160 ? "pixels" : "";
}

function zoomBy(factor, x = 0, y = 0) {  // x, y: from the middle of the stage, the place that stays
  const next = Math.min(40, Math.max(1, zoom * factor));
  shift = next === 1 ? [0, 0] : [x - (x - shift[0]) * next / zoom, y - (y - shift[1]) * next / zoom];
  zoom = next;
  place();
}

function sayClass(event) {
  const box = large.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return void (said.textContent = "");
  const [red, green, blue] = canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data;
  said.textContent = classOf.get("#" + [red, green, blue].map((value) => value.toString(16).padStart(2, "0")).join("")) ?? "";
}

const actions = {
  close: () => viewer.close(), fit, in: () => zoomBy(1.5), out: () => zoomBy(1 / 1.5),
  next: () => other(1), previous: () => other(-1),
};
function other(step) {
  const reachable = groups.filter((candidate) => candidate === group || candidate.closest(".gallery") === group.closest(".gallery"));
  const next = reachable[(reachable.indexOf(group) + step + reachable.length) % reachable.length];
  const caption = views[at].dataset.caption, images = [...next.querySelectorAll("img")];
  open(images.find((image) => image.dataset.caption === caption) ?? images[0]);
}
const keys = {
  ArrowRight: () => show(at + 1), ArrowLeft: () => show(at - 1), ArrowDown: actions.next, ArrowUp: actions.previous,
  " ": () => show(before), "+": actions.in, "-": actions.out, "0": fit,
};
for (const image of document.querySelectorAll(".pictures img")) {
  image.onclick = () => open(image);
  image.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    open(image);
  };
}
viewer.onkeydown = (event) => {
  if (!keys[event.key] || (event.key === " " && event.target.matches("button"))) return;
  event.preventDefault();
  keys[event.key]();
};
viewer.onclick = (event) => {
  const action = event.target.closest("[data-do]");
  if (action) actions[action.dataset.do]();
  else if (event.target === viewer) viewer.close();
};
const pointers = new Map();
stage.onpointerdown = (event) => { stage.setPointerCapture(event.pointerId); pointers.set(event.pointerId, [event.clientX, event.clientY]); sayClass(event); };
stage.onpointerup = stage.onpointercancel = (event) => pointers.delete(event.pointerId);
stage.onpointermove = (event) => {
  sayClass(event);
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const gap = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
  const apart = pointers.size === 2 ? gap() : 0;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (apart) return zoomBy(gap() / apart);
  if (zoom > 1) shift = [shift[0] + event.clientX - last[0], shift[1] + event.clientY - last[1]];
  place();
};
stage.onwheel = (event) => {
  event.preventDefault();
  const room = stage.getBoundingClientRect();
  zoomBy(Math.exp(-event.deltaY / 400), event.clientX - room.left - room.width / 2, event.clientY - room.top - room.height / 2);
};
window.addEventListener("resize", () => { if (viewer.open) place(); });
