// The map of class embeddings: a class with its nearest ones, search, and zoom with names that are placed anew.
const map = document.getElementById("map");
if (map) {
  const { names, near, distances, maps } = JSON.parse(document.getElementById("embedding-data").textContent);
  const svg = map.querySelector("svg"), links = map.querySelector(".links"), said = map.querySelector(".said"), search = map.querySelector("input");
  const circles = [...svg.querySelectorAll("circle")], width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
  const radius = circles[0].r.baseVal.value, firstNames = map.querySelector(".names"), note = map.querySelector(".note");
  let points = maps[0].points, zoom = 1, corner = [0, 0], chosen = -1, pinned = false, dragged = null, extra = [];

  const make = (name, attributes, words = "") => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = words;
    return element;
  };
  const bold = (words) => Object.assign(document.createElement("b"), { textContent: words });

  const choose = (index) => {
    if (index === chosen) return;
    chosen = index;
    const close = index < 0 ? [] : near[index];
    circles.forEach((circle, place) => {
      circle.setAttribute("class", index < 0 ? "" : place === index ? "chosen" : close.includes(place) ? "near" : "dim");
    });
    linkChosen();
    nameChosen();
    said.replaceChildren();
    if (index < 0) return void (said.textContent = "Point at a class, or search for one.");
    said.append(bold(names[index]), close.length ? " is nearest to " : "");
    close.forEach((other, rank) => said.append(rank ? ", " : "", bold(names[other]), ` ${distances[index][rank].toFixed(3)}`));
  };

  const linkChosen = () => {
    links.replaceChildren(...(chosen < 0 ? [] : near[chosen]).map((other) => {
      const [[x1, y1], [x2, y2]] = [points[chosen], points[other]];
      return make("line", { x1, y1, x2, y2 });
    }));
  };

  // Another way of flattening the same classes; the chosen class stays chosen.
  const show = (shown) => {
    points = shown.points;
    note.textContent = shown.note;
    circles.forEach((circle, index) => {
      circle.setAttribute("cx", points[index][0]);
      circle.setAttribute("cy", points[index][1]);
    });
    const lined = shown.labels.map((label, index) => [label, points[index]]).filter(([label]) => label);
    firstNames.replaceChildren(
      ...lined.filter(([label]) => label.line).map(([label, [x1, y1]]) => make("line", { x1, y1, x2: label.x, y2: label.y })),
      ...lined.map(([label]) => make("text", { x: label.x, y: label.y, "text-anchor": label.anchor }, label.text)),
    );
    linkChosen();
    zoomBy(0);
  };

  // Names of the chosen class and of its nearest, over everything else.
  const nameChosen = () => {
    for (const element of svg.querySelectorAll(".over")) element.remove();
    if (chosen < 0) return;
    const shown = new Set([...(zoom === 1 ? firstNames.children : extra)].map((element) => element.textContent));
    for (const index of [...near[chosen], chosen].filter((index) => !shown.has(names[index]))) {
      const [x, y] = points[index], left = x > corner[0] + 0.8 * width / zoom;
      svg.append(make("text", { class: "over", x: x + (left ? -1 : 1) * 9 / zoom, y, "text-anchor": left ? "end" : "start" }, names[index]));
    }
  };

  const look = () => {
    corner = corner.map((value, axis) => Math.min([width, height][axis] * (1 - 1 / zoom), Math.max(0, value)));
    svg.setAttribute("viewBox", `${corner[0]} ${corner[1]} ${width / zoom} ${height / zoom}`);
    svg.style.setProperty("--zoom", zoom);
    for (const circle of circles) circle.setAttribute("r", radius / zoom ** 0.75);
    for (const element of extra) element.remove();
    firstNames.style.display = zoom === 1 ? "" : "none";
    extra = zoom === 1 ? [] : placeNames();
    nameChosen();
  };

  // Names right of the points in sight, where they cover neither each other nor what was placed before.
  const placeNames = () => {
    const taken = [], placed = [], size = 11 / zoom;
    points.forEach(([x, y], index) => {
      if (x < corner[0] || y < corner[1] || x > corner[0] + width / zoom || y > corner[1] + height / zoom) return;
      const box = [x, y - size / 2, x + (names[index].length * 0.58 + 1) * size, y + size / 2];
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) return;
      taken.push(box);
      placed.push(make("text", { x: x + 0.8 * size, y }, names[index]));
    });
    svg.append(...placed);
    return placed;
  };

  const zoomBy = (factor, [x, y] = [corner[0] + width / zoom / 2, corner[1] + height / zoom / 2]) => {
    const next = factor ? Math.min(60, Math.max(1, zoom * factor)) : 1;
    corner = [x - (x - corner[0]) * zoom / next, y - (y - corner[1]) * zoom / next];
    zoom = next;
    look();
  };
  const position = (event) => {
    const room = svg.getBoundingClientRect();
    return [corner[0] + (event.clientX - room.left) / room.width * width / zoom, corner[1] + (event.clientY - room.top) / room.height * height / zoom];
  };
  const nearest = ([x, y], reach = 22 / zoom) => {
    let best = -1;
    points.forEach(([left, top], index) => {
      const gap = Math.hypot(left - x, top - y);
      if (gap < reach) [best, reach] = [index, gap];
    });
    return best;
  };

  svg.onpointermove = (event) => {
    if (dragged) {
      const [x, y] = position(event);
      corner = [corner[0] + dragged[0] - x, corner[1] + dragged[1] - y];
      look();
    } else if (!pinned) choose(nearest(position(event)));
  };
  svg.onpointerdown = (event) => {
    const index = nearest(position(event));
    pinned = index >= 0;
    choose(index);
    if (index < 0 && zoom > 1) { dragged = position(event); svg.setPointerCapture(event.pointerId); }
  };
  svg.onpointerup = svg.onpointercancel = () => (dragged = null);
  svg.onpointerleave = () => { if (!pinned && !dragged) choose(-1); };
  svg.onwheel = (event) => {
    if (!event.ctrlKey && zoom === 1 && event.deltaY > 0) return; // the page scrolls on
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), position(event));
  };
  svg.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) [pinned] = [true, choose((chosen + step + names.length) % names.length)];
    else if (event.key === "Escape") [pinned] = [false, choose(-1)];
    else if (event.key === "+" || event.key === "-") zoomBy(event.key === "+" ? 1.5 : 1 / 1.5, points[chosen]);
    else return;
    event.preventDefault();
  };
  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase(), lower = names.map((name) => name.toLowerCase());
    const index = !wanted ? -1 : lower.includes(wanted) ? lower.indexOf(wanted) : lower.findIndex((name) => name.includes(wanted));
    pinned = index >= 0;
    choose(index);
  };
  const ways = [...map.querySelectorAll("[data-map]")];
  for (const button of ways) {
    button.onclick = () => {
      for (const other of ways) other.setAttribute("aria-pressed", String(other === button));
      show(maps[button.dataset.map]);
    };
  }
  map.querySelector("form").onsubmit = (event) => event.preventDefault();
  for (const button of map.querySelectorAll("[data-zoom]")) button.onclick = () => zoomBy(Number(button.dataset.zoom), points[chosen]);
}
