// The charts: SVG, drawn anew whenever what is shown changes.

// ---- numbers

const SUFFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** A number on its own: 1.2k, 3M, 0.05. */
function compact(value) {
  const size = Math.abs(value);
  if (size && size < 1e-3) return Number(value.toPrecision(3)).toExponential();
  const [unit, suffix] = SUFFIXES.find(([unit]) => size >= unit) ?? [1, ""];
  return Number((value / unit).toPrecision(3)) + suffix;
}

/** A number in full, for the tooltip. */
function exact(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (Math.abs(value) < 1e-3) return value.toExponential(3);
  return value.toLocaleString("en", { maximumSignificantDigits: 5 });
}

/** Ticks at round numbers, written with as many digits as tell them apart; `least` is the smallest step. */
function linearTicks(low, high, most, least) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, power * ([1, 2, 5].find((multiple) => multiple * power >= rough) ?? 10));
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
  const size = Math.max(...values.map(Math.abs));
  if (size < 1e-3) return values.map((value) => [value, compact(value)]);
  const [unit, suffix] = SUFFIXES.find(([unit]) => size >= Math.max(unit, 1e4)) ?? [1, ""];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  return values.map((value) => [value, value ? (value / unit).toFixed(digits) + suffix : "0"]);
}

/** Ticks for a logarithmic axis: as many per decade as there is room for; within about one decade, round numbers. */
function logTicks(low, high, most, least) {
  const every = Math.max(1, Math.ceil(Math.log10(high / low) / most));
  for (const multiples of every > 1 ? [[1]] : [[1, 2, 5], [1, 3], [1]]) {
    const values = [];
    for (let exponent = Math.floor(Math.log10(low)); 10 ** exponent <= high; exponent++) {
      if (exponent % every === 0) values.push(...multiples.map((multiple) => multiple * 10 ** exponent));
    }
    const within = values.filter((value) => value >= low && value <= high);
    if (within.length < 3) break;
    if (within.length <= most + 1) return within.map((value) => [value, compact(value)]);
  }
  return linearTicks(low, high, most, least);
}

/** A scale from values to pixels that leaves a little room at both ends. */
function makeScale(values, isLog, from, to, most) {
  let [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const forth = isLog ? Math.log : (value) => value;
  const back = isLog ? Math.exp : (value) => value;
  const room = (forth(high) - forth(low)) * 0.04 || (isLog ? 0.1 : Math.abs(high) * 0.05 || 1);
  const isPositive = low >= 0;
  low = back(forth(low) - room);
  high = back(forth(high) + room);
  if (isPositive && !isLog) low = Math.max(0, low);
  const place = (value) => from + ((forth(value) - forth(low)) / (forth(high) - forth(low))) * (to - from);
  const least = values.every(Number.isInteger) ? 1 : 0; // there is no half epoch
  return { place, ticks: (isLog ? logTicks : linearTicks)(low, high, most, least) };
}

// ---- charts

/** One chart: its controls, its legend, and a drawing that is made anew whenever one of them changes. */
class Chart {
  /** `isIn` tells of the index of a variant whether the filter lets it through. */
  constructor(spec, isIn) {
    this.spec = spec;
    this.isIn = isIn;
    this.isLines = spec.kind === "lines";
    this.series = this.isLines ? spec.series : spec.points.map(asSeries);
    for (const series of this.series) series.look = DATA.variants[series.variant];
    this.hidden = new Set();
    this.x = spec.x_options[0];
    this.plot = element("div", { class: "plot" });
    this.tip = element("div", { class: "tip", role: "status", hidden: true });
    this.logBox = element("input", { type: "checkbox", autocomplete: "off", onchange: () => this.draw() });
    this.chooseY(spec.y_options[0]);
    this.items = new Map();
    const indices = new Set(this.series.map((series) => series.variant));
    for (const index of indices) this.items.set(index, this.makeItem(index));
    const controls = element("div", { class: "controls" },
      chooser("y", spec.y_options, (option) => { this.chooseY(option); this.draw(); }),
      chooser("x", spec.x_options, (option) => { this.x = option; this.draw(); }),
      element("label", {}, this.logBox, "logarithmic y"));
    const buttons = [
      element("button", { class: "all", onclick: () => this.hide([]) }, "all"),
      element("button", { class: "all", onclick: () => this.hide(this.items.keys()) }, "none"),
    ];
    this.legend = element("div", { class: "legend", role: "group", "aria-label": "Variants in this chart" },
      ...(this.items.size > 1 ? buttons : []), ...this.items.values());
    const note = spec.note ? element("p", { class: "quiet" }, spec.note) : null;
    const caption = element("figcaption", {}, element("h3", {}, spec.title), note);
    this.figure = element("figure", { id: `chart-${spec.id}` }, caption, controls, this.plot, this.legend);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.leave());
  }

  chooseY(option) {
    this.y = option;
    this.logBox.checked = Boolean(option.log);
  }

  makeItem(index) {
    const variant = DATA.variants[index];
    const title = "click: hide or show; double or Alt click: only this one";
    const item = element("button", { title, "aria-pressed": "true" }, swatch(variant), variant.label);
    const only = () => this.hide([...this.items.keys()].filter((other) => other !== index));
    item.addEventListener("dblclick", only);
    item.addEventListener("click", (event) => {
      if (event.altKey) return only();
      if (!this.hidden.delete(index)) this.hidden.add(index);
      this.update();
    });
    return item;
  }

  hide(indices) {
    this.hidden = new Set(indices);
    this.update();
  }

  /** After a change of what is shown. The items of the legend stay the same ones: a double click needs that. */
  update() {
    for (const [index, item] of this.items) {
      item.setAttribute("aria-pressed", String(!this.hidden.has(index)));
      item.hidden = !this.isIn(index);
    }
    this.draw();
  }

  /** The points of a series in the chosen units; null where there is none, or none that a logarithm knows. */
  pointsOf(series) {
    const [xs, y] = [series.x[this.x.key] ?? [], series.y[this.y.key] ?? { mean: [] }];
    const isKnown = (value, isLog) => Number.isFinite(value) && !(isLog && value <= 0);
    return y.mean.map((mean, i) => {
      if (!isKnown(xs[i], this.x.log) || !isKnown(mean, this.isLog)) return null;
      return { series, x: xs[i], y: mean, low: y.low?.[i] ?? null, high: y.high?.[i] ?? null };
    });
  }

  draw() {
    this.leave();
    this.isLog = this.logBox.checked;
    const shown = this.series.filter(({ variant }) => this.isIn(variant) && !this.hidden.has(variant));
    const lines = shown.map((series) => this.pointsOf(series));
    this.points = lines.flat().filter(Boolean);
    const width = Math.max(260, this.plot.clientWidth || 600);
    const height = this.points.length ? Math.round(Math.min(400, Math.max(250, width * 0.6))) : 80;
    const name = `${this.spec.title}: ${this.y.title} against ${this.x.title}`;
    this.drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
    // The titles are no part of the drawing, where a long one would not break.
    const title = (option, isLog) => element("div", { class: "title" }, option.title, isLog ? ", logarithmic" : null);
    this.plot.replaceChildren(title(this.y, this.isLog), this.drawing, title(this.x, this.x.log), this.tip);
    if (!this.points.length) {
      const text = this.hidden.size ? "Nothing is shown: choose variants below." : "There is nothing to show here.";
      this.drawing.append(svg("text", { x: 2, y: height / 2 }, text));
      return;
    }
    this.axes(width, height);
    // Many bands on top of each other would be mud.
    this.drawing.style.setProperty("--band", Math.min(0.16, 0.8 / lines.length));
    for (const line of lines.filter((line) => line.some(Boolean))) {
      const { series } = line.find(Boolean);
      const parts = this.isLines ? this.curve(line) : this.dots(line);
      series.group = ink(svg("g", { class: "series" }, ...parts), series.look);
      this.drawing.append(series.group);
    }
    if (!this.isLines) this.joinAndName(width);
    this.ring = svg("path", { class: "ring", visibility: "hidden" });
    this.drawing.append(this.ring);
  }

  /** Scales, grid and ticks; each point learns its place. */
  axes(width, height) {
    const [top, bottom, right] = [10, height - 22, width - 14];
    // A band that reaches below zero must not decide where a logarithmic axis begins.
    const isIn = (value, y) => !isMissing(value) && !(this.isLog && value < y / 10);
    const ends = this.points.flatMap(({ low, y, high }) => [y, low, high].filter((value) => isIn(value, y)));
    const yScale = makeScale(ends, this.isLog, bottom, top, Math.round(height / 50));
    const left = 14 + 6.5 * Math.max(...yScale.ticks.map(([, text]) => text.length));
    const xs = this.points.map((point) => point.x);
    const xScale = makeScale(xs, this.x.log, left, right, Math.round((right - left) / 75));
    for (const [value, text] of yScale.ticks) {
      const y = yScale.place(value);
      this.drawing.append(svg("path", { class: "grid", d: `M${left} ${y}H${right}` }),
        svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    for (const [value, text] of xScale.ticks) {
      const x = xScale.place(value);
      this.drawing.append(svg("path", { class: "axis", d: `M${x} ${bottom}v4` }),
        svg("text", { x, y: bottom + 16, "text-anchor": "middle" }, text));
    }
    this.drawing.append(svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }));
    const clamped = (value) => (this.isLog && value <= 0 ? bottom : Math.min(bottom, yScale.place(value)));
    for (const point of this.points) {
      point.at = [xScale.place(point.x), yScale.place(point.y)];
      point.ends = isMissing(point.low) || isMissing(point.high) ? null : [clamped(point.low), clamped(point.high)];
    }
  }

  curve(line) {
    const { look, variant } = line.find(Boolean).series;
    const path = line.map((point, i) => point && `${line[i - 1] ? "L" : "M"}${point.at}`).filter(Boolean).join("");
    // Eight marks a line, elsewhere on each; and one on a point without neighbours, which a line cannot show.
    const step = Math.ceil(line.length / 8);
    const marked = line.filter((point, i) => point && (i % step === variant % step || !(line[i - 1] || line[i + 1])));
    const bands = runsOf(line, (point) => point?.ends).filter((run) => run.length > 1).map((run) => {
      const upper = run.map((point) => `${point.at[0]},${point.ends[1]}`);
      const lower = run.map((point) => `${point.at[0]},${point.ends[0]}`).reverse();
      return `M${[...upper, ...lower].join("L")}z`;
    });
    return [
      svg("path", { class: "band", d: bands.join("") }),
      svg("path", { class: "line", d: path, "stroke-dasharray": look.dash }),
      marks(look, marked.map((point) => point.at)),
    ];
  }

  dots(line) {
    const points = line.filter(Boolean);
    const bar = ({ at: [x], ends: [low, high] }) => `M${x} ${low}V${high}m-3 0h6M${x - 3} ${low}h6`;
    return [
      svg("path", { class: "bar", d: points.filter((point) => point.ends).map(bar).join("") }),
      marks(points[0].series.look, points.map((point) => point.at)),
    ];
  }

  /** The line along the front, and the names of as many points as there is room for, the front's first. */
  joinAndName(width) {
    // What belongs to the front was told for the first metric only.
    const isFront = (point) => this.y === this.spec.y_options[0] && Boolean(point.series.front?.[this.x.key]);
    const front = this.points.filter(isFront).sort((a, b) => a.x - b.x);
    const path = `M${front.map((point) => point.at).join("L")}`;
    if (front.length > 1) this.drawing.append(svg("path", { class: "front", d: path }));
    const taken = this.points.map(({ at: [x, y], ends }) => [x - 5, (ends?.[1] ?? y) - 5, x + 5, (ends?.[0] ?? y) + 5]);
    for (const point of [...front, ...this.points.filter((point) => !isFront(point))]) {
      const [[x, y], text] = [point.at, point.series.look.label];
      const size = text.length * 6 + 2;
      const places = [[x + 8, y - 6], [x - 8 - size, y - 6], [x + 8, y - 20], [x + 8, y + 8]];
      const boxes = places.map(([left, up]) => [left, up, left + size, up + 12]);
      const box = boxes.find((box) => box[0] > 0 && box[2] < width && !taken.some((other) => overlap(box, other)));
      if (!box) continue;
      taken.push(box);
      this.drawing.append(svg("text", { class: "label", x: box[0] + 1, y: box[1] + 10 }, text));
    }
  }

  /** Show what lies nearest to the pointer. */
  point(event) {
    const box = this.drawing.getBoundingClientRect();
    const scale = this.drawing.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let [nearest, least] = [null, 40];
    for (const point of this.points) {
      const distance = Math.hypot(point.at[0] - x, point.at[1] - y);
      if (distance < least) [nearest, least] = [point, distance];
    }
    this.leave();
    if (!nearest) return;
    const { series, at, low, high } = nearest;
    const spread = isMissing(low) || isMissing(high) ? "" : ` (${exact(low)} to ${exact(high)})`;
    const line = (option, value, rest = "") => element("span", {}, `${option.title}: ${exact(value)}${rest}`);
    const name = element("b", {}, swatch(series.look), [series.look.label, series.label].filter(Boolean).join(", "));
    this.tip.replaceChildren(name, line(this.y, nearest.y, spread), line(this.x, nearest.x));
    this.tip.hidden = false;
    const isRight = at[0] * 2 > this.drawing.viewBox.baseVal.width;
    this.tip.style.left = isRight ? "auto" : `${at[0] / scale + 14}px`;
    this.tip.style.right = isRight ? `${box.width - at[0] / scale + 14}px` : "auto";
    this.tip.style.top = `${Math.max(0, box.top - this.plot.getBoundingClientRect().top + at[1] / scale - 24)}px`;
    this.ring.setAttribute("d", `M${at[0] - 7} ${at[1]}a7 7 0 1 0 14 0a7 7 0 1 0 -14 0z`);
    this.ring.setAttribute("visibility", "visible");
    series.group.classList.add("near");
  }

  leave() {
    this.tip.hidden = true;
    this.ring?.setAttribute("visibility", "hidden");
    for (const { group } of this.series) group?.classList.remove("near");
  }
}

/** A point is a series of length one. */
function asSeries(point) {
  const listed = (of, wrap) => Object.fromEntries(Object.entries(of).map(([key, value]) => [key, wrap(value)]));
  return { ...point, x: listed(point.x, (x) => [x]), y: listed(point.y, (y) => y && listed(y, (value) => [value])) };
}

function runsOf(items, isIn) {
  const runs = [[]];
  for (const item of items) {
    if (isIn(item)) runs.at(-1).push(item);
    else runs.push([]);
  }
  return runs;
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

function chooser(name, options, choose) {
  if (options.length < 2) return null;
  const entries = options.map((option, i) => element("option", { value: i }, option.title));
  const select = element("select", { "aria-label": `${name} axis`, autocomplete: "off" }, ...entries);
  select.addEventListener("change", () => choose(options[select.value]));
  return element("label", {}, name, select);
}
