"use strict";
// Draws the page from the JSON in it. No library, no request.
const data = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#4c78a8", "#e45756", "#f2b134", "#54a24b", "#b279a2", "#9d755d", "#8a94a6"];
const WIDTH = 1200;
const ROW = 20;
const MAP_ROW = 10;
const MAP_ROWS = 160;
let zoom = [];

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let index = 0;
  let size = Math.abs(n);
  while (size >= 1024 && index < units.length - 1) { size /= 1024; index += 1; }
  return (n < 0 ? "-" : "") + (index ? size.toFixed(2) : size) + " " + units[index];
}

function percent(x) { return x === null ? "not measured" : (100 * x).toFixed(1) + " %"; }

function element(id) { return document.getElementById(id); }

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name); }

function node(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The owners of a moment as a tree of module names, the purpose last.
function treeOf(moment) {
  const root = { name: "all", bytes: 0, parts: new Map(), category: -1 };
  for (const [owner, size] of moment.owners) {
    const [, module, category] = data.owners[owner];
    const path = module.startsWith("(") ? [module] : module.split(".");
    let place = root;
    place.bytes += size;
    for (const name of path) {
      if (!place.parts.has("." + name)) {
        place.parts.set("." + name, { name, bytes: 0, parts: new Map(), category: -1 });
      }
      place = place.parts.get("." + name);
      place.bytes += size;
    }
    const key = "|" + category;
    if (!place.parts.has(key)) {
      place.parts.set(key, { name: data.categories[category], bytes: 0, parts: new Map(), category });
    }
    place.parts.get(key).bytes += size;
  }
  return root;
}

// Rectangles of the tree: x and width as parts of one, depth, what to show.
function layoutOf(root, path) {
  let top = root;
  const used = [];
  for (const key of path) {
    if (!top.parts.has(key)) break;
    top = top.parts.get(key);
    used.push(key);
  }
  const boxes = [];
  const place = (item, x, width, depth, way, title) => {
    boxes.push({ item, x, width, depth, way, title });
    let left = x;
    const parts = [...item.parts.entries()].sort((a, b) => b[1].bytes - a[1].bytes);
    for (const [key, part] of parts) {
      const share = item.bytes ? width * part.bytes / item.bytes : 0;
      if (share * WIDTH >= 0.5) place(part, left, share, depth + 1, [...way, key], title + " / " + part.name);
      left += share;
    }
  };
  place(top, 0, 1, 0, used, used.map((key) => key.slice(1)).join(".") || "all");
  return boxes;
}

function svgNode(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function shade(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 360;
  return `hsl(${20 + sum % 40} 75% ${68 + sum % 14}%)`;
}

function drawFlame(moment) {
  const boxes = moment ? layoutOf(treeOf(moment), zoom) : [];
  const svg = element("flame");
  const depth = boxes.reduce((most, box) => Math.max(most, box.depth), 0) + 1;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${depth * ROW}`);
  svg.replaceChildren(...boxes.map((box) => {
    const group = svgNode("g", {});
    const fillColor = box.item.category >= 0 ? COLORS[box.item.category] : shade(box.item.name);
    const x = box.x * WIDTH;
    const width = box.width * WIDTH;
    const rect = svgNode("rect", { x, y: box.depth * ROW, width, height: ROW - 1, fill: fillColor });
    const title = svgNode("title", {});
    title.textContent = `${box.title}: ${bytes(box.item.bytes)}`;
    rect.appendChild(title);
    group.appendChild(rect);
    if (width > 40) {
      const label = svgNode("text", { x: x + 3, y: box.depth * ROW + 13 });
      label.textContent = `${box.item.name} ${bytes(box.item.bytes)}`.slice(0, Math.floor(width / 6.2));
      group.appendChild(label);
    }
    group.addEventListener("click", () => {
      zoom = box.depth === 0 ? box.way.slice(0, -1) : box.way;
      drawFlame(moment);
    });
    return group;
  }));
}

// Segments one after the other, wrapped into rows of equal bytes.
function drawMap(moment) {
  const canvas = element("map");
  const total = moment ? moment.segments.reduce((sum, one) => sum + one[0], 0) : 0;
  const perRow = Math.max(total / MAP_ROWS, 2 ** 21);
  const rows = Math.max(Math.ceil(total / perRow), 1);
  canvas.width = WIDTH;
  canvas.height = rows * MAP_ROW;
  const context = canvas.getContext("2d");
  let start = 0;
  const paint = (from, size, paintColor) => {
    let left = from;
    const end = from + size;
    while (left < end) {
      const row = Math.floor(left / perRow);
      const stop = Math.min(end, (row + 1) * perRow);
      context.fillStyle = paintColor;
      context.fillRect((left - row * perRow) / perRow * WIDTH, row * MAP_ROW,
        Math.max((stop - left) / perRow * WIDTH, 0.3), MAP_ROW - 1);
      if (stop <= left) break;
      left = stop;
    }
  };
  paint(0, total, color("--free"));
  for (const [size, , blocks] of moment ? moment.segments : []) {
    let address = start;
    for (let index = 0; index < blocks.length; index += 2) {
      if (blocks[index + 1] >= 0) paint(address, blocks[index], COLORS[data.owners[blocks[index + 1]][2]]);
      address += blocks[index];
    }
    start += size;
    paint(start - perRow / WIDTH, perRow / WIDTH, "#10151f");
  }
  const told = moment ? moment.fragmentation : [null, null, 0, 0];
  element("fragmentation").textContent = moment
    ? `${moment.segments.length} segments, ${bytes(total)}; grey is free, a dark line ends a segment. ` +
      `Waste ${percent(told[0])}, external ${percent(told[1])}, unreleasable ${bytes(told[2])}, ` +
      `internal ${bytes(told[3])}.`
    : "Nothing was recorded.";
}

function drawTimeline(moment) {
  const canvas = element("timeline");
  const context = canvas.getContext("2d");
  const { events, bytes: columns, reserved } = data.timeline;
  const height = canvas.height;
  context.clearRect(0, 0, WIDTH, height);
  if (!events.length) return;
  const first = events[0];
  const span = Math.max(events[events.length - 1] - first, 1);
  const most = reserved.reduce((a, b) => Math.max(a, b), data.peak_bytes) || 1;
  const x = (event) => (event - first) / span * (WIDTH - 2);
  const y = (size) => height - size / most * (height - 4);
  const below = events.map(() => 0);
  columns.forEach((column, category) => {
    context.fillStyle = COLORS[category];
    context.beginPath();
    events.forEach((event, index) => context.lineTo(x(event), y(below[index])));
    for (let index = events.length - 1; index >= 0; index -= 1) {
      context.lineTo(x(events[index]), y(below[index] + column[index]));
    }
    column.forEach((size, index) => { below[index] += size; });
    context.fill();
  });
  context.strokeStyle = "#888";
  context.beginPath();
  events.forEach((event, index) => context.lineTo(x(event), y(reserved[index])));
  context.stroke();
  context.fillStyle = color("--ink");
  context.fillText(`${bytes(most)}; the line is what is reserved`, 4, 12);
  if (moment) {
    context.fillStyle = "#d9822b";
    context.fillRect(x(moment.event), 0, 2, height);
  }
}

function fill(id, head, rows) {
  const table = element(id);
  let order = rows.map((_, index) => index);
  const draw = () => {
    const top = node("tr");
    head.forEach((name, column) => {
      const cell = node("th", name);
      cell.addEventListener("click", () => {
        const of = (index) => rows[index][column];
        order = [...order].sort((a, b) => (of(a) < of(b) ? 1 : of(a) > of(b) ? -1 : 0));
        draw();
      });
      top.appendChild(cell);
    });
    table.replaceChildren(top, ...order.map((index) => {
      const line = node("tr");
      rows[index].forEach((value, column) => {
        const isBytes = typeof value === "number" && head[column] !== "allocations";
        line.appendChild(node("td", isBytes ? bytes(value) : value === null ? "" : String(value)));
      });
      return line;
    }));
  };
  draw();
}

function show(index) {
  const moment = data.moments[index];
  drawTimeline(moment);
  drawFlame(moment);
  drawMap(moment);
  if (!moment) return;
  const size = moment.owners.reduce((sum, one) => sum + one[1], 0);
  const time = moment.time_us === null ? "" : `, ${(moment.time_us / 1000).toFixed(2)} ms`;
  const peak = moment.event === data.peak_event ? ", the peak" : "";
  element("moment").textContent =
    `${bytes(size)} allocated after event ${moment.event} of ${data.n_events}${time}${peak}`;
}

function begin() {
  element("source").textContent = `${data.source} on ${data.device}, attribution by ${data.attribution}`;
  element("warnings").replaceChildren(...data.warnings.map((text) => {
    const line = node("p", text);
    line.className = "warning";
    return line;
  }));
  const figures = [
    ["peak allocated", bytes(data.peak_bytes)],
    ["peak reserved", bytes(data.peak_reserved_bytes)],
    ["peak is in", data.peak_phase || "no event"],
    ["at the start", bytes(data.start_bytes)],
    ["at the end", bytes(data.end_bytes)],
    ["events", String(data.n_events)],
  ];
  element("figures").replaceChildren(...figures.map(([name, value]) => {
    const box = node("div", name);
    box.appendChild(node("b", value));
    return box;
  }));
  const used = data.categories.map((name, index) => [name, index]).filter(
    ([, index]) => data.timeline.bytes[index].some((size) => size > 0));
  element("legend").replaceChildren(...used.map(([name, index]) => {
    const box = node("span");
    const sample = node("i");
    sample.style.background = COLORS[index];
    box.appendChild(sample);
    box.appendChild(node("span", name));
    return box;
  }));
  const phases = data.phases.map((one) => one[0]);
  fill("layers", ["layer", "at the peak", "own peak",
    ...phases.flatMap((name) => [`${name}: peak`, `${name}: retained`])],
  data.layers.map(([module, atPeak, ownPeak, rows]) => {
    const found = new Map(rows.map(([name, peak, kept]) => [name, [peak, kept]]));
    return [module, atPeak, ownPeak, ...phases.flatMap((name) => found.get(name) || [null, null])];
  }));
  fill("phases", ["phase", "peak", "retained", "allocations"], data.phases);
  fill("blocks", ["layer", "purpose", "phase", "bytes"],
    data.blocks.map(([size, module, category, phase]) => [module, category, phase, size]));
  const slider = element("slider");
  slider.max = Math.max(data.moments.length - 1, 0);
  const peak = Math.max(data.moments.findIndex((one) => one.event === data.peak_event), 0);
  slider.addEventListener("input", () => show(Number(slider.value)));
  element("to-peak").addEventListener("click", () => { slider.value = peak; show(peak); });
  element("timeline").addEventListener("click", (click) => {
    const { events } = data.timeline;
    if (!data.moments.length) return;
    const share = click.offsetX / element("timeline").clientWidth;
    const wanted = events[0] + share * (events[events.length - 1] - events[0]);
    const away = data.moments.map((one) => Math.abs(one.event - wanted));
    slider.value = away.indexOf(Math.min(...away));
    show(Number(slider.value));
  });
  slider.value = peak;
  show(peak);
}

begin();
