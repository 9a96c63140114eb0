// A label map: ids row by row, IGNORED where there is no class, and what the tools do to it. Points are [x, y] in pixels of the map.

const IGNORED = 65535;

class LabelMap {
  constructor(height, width, ids) {
    this.height = height;
    this.width = width;
    this.ids = ids || new Uint16Array(height * width).fill(IGNORED);
  }

  at(x, y) {
    return x < 0 || y < 0 || x >= this.width || y >= this.height ? null : this.ids[Math.floor(y) * this.width + Math.floor(x)];
  }

  // A stroke of a round brush from one point to another: every pixel whose centre is within half the size of the line between them.
  stroke([x0, y0], [x1, y1], size, id) {
    const radius = size / 2, dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy || 1e-9;
    if (size <= 1) {
      return this.thinLine(Math.floor(x0), Math.floor(y0), Math.floor(x1), Math.floor(y1), id);
    }
    const [left, right, top, bottom] = this.box([x0, x1], [y0, y1], radius);
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const px = x + 0.5 - x0, py = y + 0.5 - y0, t = Math.max(0, Math.min(1, (px * dx + py * dy) / length));
        if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= radius * radius) this.ids[y * this.width + x] = id;
      }
    }
  }

  thinLine(x, y, toX, toY, id) {
    const dx = Math.abs(toX - x), dy = -Math.abs(toY - y), sx = x < toX ? 1 : -1, sy = y < toY ? 1 : -1;
    for (let error = dx + dy; ;) {
      if (x >= 0 && y >= 0 && x < this.width && y < this.height) this.ids[y * this.width + x] = id;
      if (x === toX && y === toY) return;
      const twice = 2 * error;
      if (twice >= dy) { error += dy; x += sx; }
      if (twice <= dx) { error += dx; y += sy; }
    }
  }

  rectangle([x0, y0], [x1, y1], id) {
    const [left, right, top, bottom] = this.box([x0, x1], [y0, y1], 0);
    for (let y = top; y <= bottom; y++) this.ids.fill(id, y * this.width + left, y * this.width + right + 1);
  }

  // Pixels whose centre is inside, by the even-odd rule.
  polygon(corners, id) {
    const [, , top, bottom] = this.box(corners.map(([x]) => x), corners.map(([, y]) => y), 0);
    for (let y = top; y <= bottom; y++) {
      const crossings = [];
      corners.forEach(([x0, y0], index) => {
        const [x1, y1] = corners[(index + 1) % corners.length], middle = y + 0.5;
        if ((y0 <= middle) !== (y1 <= middle)) crossings.push(x0 + (middle - y0) / (y1 - y0) * (x1 - x0));
      });
      crossings.sort((a, b) => a - b);
      for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
        const from = Math.max(0, Math.ceil(crossings[pair] - 0.5)), to = Math.min(this.width, Math.ceil(crossings[pair + 1] - 0.5));
        if (to > from) this.ids.fill(id, y * this.width + from, y * this.width + to);
      }
    }
  }

  // The connected pixels of the class at a point.
  fill([px, py], id) {
    const { ids, width, height } = this, start = Math.floor(py) * width + Math.floor(px), old = this.at(px, py);
    if (old === null || old === id) return;
    const todo = [start];
    while (todo.length) {
      const place = todo.pop();
      if (ids[place] !== old) continue;
      const row = place - place % width;
      let left = place, right = place;
      while (left > row && ids[left - 1] === old) left--;
      while (right < row + width - 1 && ids[right + 1] === old) right++;
      ids.fill(id, left, right + 1);
      for (const next of [-width, width]) {
        if (row + next < 0 || row + next >= width * height) continue;
        for (let at = left + next; at <= right + next; at++) if (ids[at] === old && (at === left + next || ids[at - 1] !== old)) todo.push(at);
      }
    }
  }

  box(xs, ys, around) {
    const clamp = (value, most) => Math.max(0, Math.min(most - 1, Math.floor(value)));
    return [
      clamp(Math.min(...xs) - around, this.width), clamp(Math.max(...xs) + around, this.width),
      clamp(Math.min(...ys) - around, this.height), clamp(Math.max(...ys) + around, this.height),
    ];
  }
}

// Runs of equal ids as [count, id, …]: label maps are mostly runs, so that undo without limit costs little.
function toRuns(ids) {
  const runs = [];
  for (let start = 0; start < ids.length;) {
    let end = start + 1;
    while (end < ids.length && ids[end] === ids[start]) end++;
    runs.push(end - start, ids[start]);
    start = end;
  }
  return new Uint32Array(runs);
}

function fromRuns(runs, length) {
  const ids = new Uint16Array(length);
  for (let pair = 0, at = 0; pair < runs.length; pair += 2) ids.fill(runs[pair + 1], at, at += runs[pair]);
  return ids;
}
